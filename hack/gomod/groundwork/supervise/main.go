// supervise runs the programs of one local cluster and restarts those that die.
//
// With "namespaces" in its plan it runs them in PID, mount and network namespaces of their own, as process 1 there. That is what
// makes teardown sure: when process 1 dies, by whatever cause, the kernel kills every process in the namespace (containers
// included), and with the last of them go all mounts, interfaces, routes and iptables rules. Without it (no root), the
// programs are plain children which the kernel kills when their parent dies.
//
// Usage: supervise PLAN.json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// Plan is everything that one supervisor does.
type Plan struct {
	Namespaces bool        `json:"namespaces"`
	CA         string      `json:"ca"`     // certificates that "https:" waits are checked against
	Report     string      `json:"report"` // file that tells what runs, rewritten at every change
	Forwards   []Forward   `json:"forwards"`
	Setup      [][]string  `json:"setup"` // commands run in order inside the namespaces before anything starts
	Components []Component `json:"components"`
}

// Forward carries connections from an address outside the namespaces to one inside.
type Forward struct {
	Listen string `json:"listen"`
	To     string `json:"to"`
}

// Component is one program. It starts when every address in WaitFor answers ("unix:PATH", "tcp:HOST:PORT", "https:HOST:PORT/PATH").
type Component struct {
	Name    string            `json:"name"`
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env"`
	Log     string            `json:"log"`
	WaitFor []string          `json:"waitFor"`
}

const insideMark = "SOMA_SUPERVISE_INSIDE"

func main() {
	// A parent-death signal is sent when the thread that forked dies, so that thread has to live as long as this process.
	runtime.LockOSThread()
	if len(os.Args) != 2 {
		fatal(fmt.Errorf("usage: supervise PLAN.json"))
	}
	plan, err := readPlan(os.Args[1])
	if err != nil {
		fatal(err)
	}
	listeners, err := openListeners(plan)
	if err != nil {
		fatal(err)
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if plan.Namespaces && os.Getenv(insideMark) == "" {
		os.Exit(runInside(stop, listeners))
	}
	if err := prepare(plan); err != nil {
		fatal(err)
	}
	for i, forward := range plan.Forwards {
		go accept(listeners[i], forward.To)
	}
	superviseAll(stop, plan)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "supervise:", err)
	os.Exit(1)
}

func readPlan(path string) (Plan, error) {
	var plan Plan
	text, err := os.ReadFile(path)
	if err != nil {
		return plan, err
	}
	return plan, json.Unmarshal(text, &plan)
}

// openListeners binds outside the namespaces; inside, the same sockets arrive as inherited file descriptors 3, 4, … A socket
// keeps the network namespace it was made in: that is how loopback outside reaches a server inside without any interface.
func openListeners(plan Plan) ([]net.Listener, error) {
	var listeners []net.Listener
	inside := os.Getenv(insideMark) != ""
	for i, forward := range plan.Forwards {
		var listener net.Listener
		var err error
		if inside {
			listener, err = net.FileListener(os.NewFile(uintptr(3+i), "listener-"+strconv.Itoa(i)))
		} else {
			listener, err = net.Listen("tcp", forward.Listen)
		}
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// runInside starts this program again as process 1 of new namespaces, and ends when that one ends.
func runInside(stop context.Context, listeners []net.Listener) int {
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), insideMark+"=1")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	for _, listener := range listeners {
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			fatal(err)
		}
		child.ExtraFiles = append(child.ExtraFiles, file)
	}
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := child.Start(); err != nil {
		fatal(fmt.Errorf("new namespaces: %w", err))
	}
	go func() {
		<-stop.Done()
		_ = child.Process.Kill() // nothing inside is worth a slow farewell: the kernel ends it all at once
	}()
	if err := child.Wait(); err != nil && stop.Err() == nil {
		fmt.Fprintln(os.Stderr, "supervise: process 1 of the namespaces ended:", err)
		return 1
	}
	return 0
}

func prepare(plan Plan) error {
	for _, argv := range plan.Setup {
		command := exec.Command(argv[0], argv[1:]...)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("setup %q: %w: %s", argv, err, output)
		}
	}
	return nil
}
