package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

const restartDelay = time.Second

// State is what the report tells of one component. PID counts in the components' own PID namespace.
type State struct {
	PID      int    `json:"pid"` // 0 while it waits or is about to be restarted
	Restarts int    `json:"restarts"`
	LastExit string `json:"lastExit,omitempty"`
}

// crew is the set of running components. One goroutine forks and reaps, because a parent-death signal belongs to the thread
// that forked, and because process 1 has to reap orphans (containerd's shims) as well as its own children.
type crew struct {
	report string
	states map[string]*State
}

func superviseAll(stop context.Context, plan Plan) {
	team := &crew{report: plan.Report, states: map[string]*State{}}
	becomeSubreaper()
	due := make(chan Component, len(plan.Components)+1)
	for _, component := range plan.Components {
		team.states[component.Name] = &State{}
		go func() {
			if waitFor(stop, component.WaitFor, plan.CA) == nil {
				due <- component
			}
		}()
	}
	team.write()
	running := map[int]Component{}
	children := make(chan os.Signal, 64)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-stop.Done():
			killAll(running)
			return
		case component := <-due:
			if pid, err := start(component); err == nil {
				running[pid] = component
				team.started(component, pid)
			} else {
				team.ended(component, err.Error())
				again(stop, component, due)
			}
		case <-children:
			for pid, status := range reap() {
				if component, ours := running[pid]; ours {
					delete(running, pid)
					team.ended(component, describe(status))
					again(stop, component, due)
				}
			}
		}
	}
}

// becomeSubreaper makes orphans of the components our children when we are not process 1.
func becomeSubreaper() {
	const prSetChildSubreaper = 36
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
}

func start(component Component) (int, error) {
	log, err := os.OpenFile(component.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	path, err := exec.LookPath(component.Argv[0])
	if err != nil {
		return 0, err
	}
	environment := os.Environ()
	for key, value := range component.Env {
		environment = append(environment, key+"="+value)
	}
	return syscall.ForkExec(path, component.Argv, &syscall.ProcAttr{
		Env:   environment,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	})
}

func again(stop context.Context, component Component, due chan<- Component) {
	go func() {
		select {
		case <-stop.Done():
		case <-time.After(restartDelay):
			due <- component
		}
	}()
}

func reap() map[int]syscall.WaitStatus {
	ended := map[int]syscall.WaitStatus{}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return ended
		}
		ended[pid] = status
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "killed by signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// killAll ends the components at once: a local cluster is thrown away, and the API server would take a minute to say goodbye.
func killAll(running map[int]Component) {
	for pid := range running {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	for pid := range running {
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
}

func (team *crew) started(component Component, pid int) {
	team.states[component.Name].PID = pid
	team.write()
}

func (team *crew) ended(component Component, how string) {
	state := team.states[component.Name]
	state.PID, state.LastExit = 0, how
	state.Restarts++
	fmt.Fprintf(os.Stderr, "%s %s ended (%s), starting it again: see %s\n",
		time.Now().UTC().Format(time.RFC3339), component.Name, how, component.Log)
	team.write()
}

func (team *crew) write() {
	text, err := json.MarshalIndent(team.states, "", "  ")
	if err != nil {
		fatal(err)
	}
	// Renamed into place, so that a reader never sees half of it.
	if err = os.WriteFile(team.report+".new", text, 0o640); err == nil {
		err = os.Rename(team.report+".new", team.report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervise: report:", err)
	}
}
