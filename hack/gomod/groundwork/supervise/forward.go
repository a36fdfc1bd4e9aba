package main

import (
	"errors"
	"io"
	"net"
	"time"
)

// accept hands every connection of a listener to its own copy of bytes. While the server inside is being restarted, a
// connection is closed at once, which clients take as "try again".
func accept(listener net.Listener, to string) {
	for {
		outside, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of file descriptors: let some connections end
			continue
		}
		go carry(outside.(*net.TCPConn), to)
	}
}

func carry(outside *net.TCPConn, to string) {
	defer outside.Close()
	connection, err := net.DialTimeout("tcp", to, 5*time.Second)
	if err != nil {
		return
	}
	inside := connection.(*net.TCPConn)
	defer inside.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]*net.TCPConn{{inside, outside}, {outside, inside}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].CloseWrite() // half-closed connections carry the rest of the other direction
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}
