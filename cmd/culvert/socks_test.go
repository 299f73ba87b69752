package main

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// socks [-user USER:PASSWORD] SERVER NAME:PORT TEXT: the text goes to the name by way of a SOCKS5 server and comes back. With
// ! the server does not lead there, and answers as the last argument says: "reply 4", "method 255", "status 1".
func socksSend(ts *testscript.TestScript, neg bool, args []string) {
	var user, password string
	if len(args) > 2 && args[0] == "-user" {
		var err error
		user, password, err = net.SplitHostPort(args[1])
		ts.Check(err)
		args = args[2:]
	}
	if neg {
		args = append(args, "")
	}
	if !neg && len(args) != 3 || neg && len(args) != 5 {
		ts.Fatalf("usage: socks [-user USER:PASSWORD] SERVER NAME:PORT TEXT, or ! with ANSWER behind it")
	}
	want, back := "reply 0", args[2]
	if neg {
		want, back = args[3], ""
	}
	var got, answer string
	var err error
	if !until(func() bool {
		got, answer, err = socksJob(args[0], user, password, args[1], args[2])
		return err == nil && answer == want && got == back || neg && answer == "reply 0"
	}) || answer != want {
		ts.Fatalf("%s by %s: %s, %q, %v; want %s", args[1], args[0], answer, got, err, want)
	}
}

// socksJob is the client's side of RFC 1928 and 1929, as short as it can be.
func socksJob(server, user, password, target, text string) (got, reply string, err error) {
	c, err := net.DialTimeout("tcp", server, scriptWait)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(scriptWait)); err != nil {
		return "", "", err
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return "", "", err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", "", err
	}
	talk := func(say string, want int) []byte {
		b := make([]byte, want)
		if err == nil {
			_, err = io.WriteString(c, say)
		}
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		return b
	}
	method := byte(0)
	if user != "" {
		method = 2
	}
	if b := talk(string([]byte{5, 1, method}), 2); err == nil && b[1] != method {
		return "", fmt.Sprintf("method %d", b[1]), nil
	}
	if user != "" {
		b := talk("\x01"+string([]byte{byte(len(user))})+user+string([]byte{byte(len(password))})+password, 2)
		if err == nil && b[1] != 0 {
			return "", fmt.Sprintf("status %d", b[1]), nil
		}
	}
	b := talk("\x05\x01\x00\x03"+string([]byte{byte(len(host))})+host+string([]byte{byte(number >> 8), byte(number)}), 10)
	if err != nil {
		return "", "", err
	}
	if reply = fmt.Sprintf("reply %d", b[1]); b[1] != 0 {
		return "", reply, nil
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", reply, err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", reply, err
	}
	all, err := io.ReadAll(c)
	return string(all), reply, err
}
