package peers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"culvert/bench/echo"
)

// binding asks coturn for its own address as it is seen: a STUN Binding without attributes.
type binding struct{}

const (
	bindingRequest  = 0x0001
	bindingResponse = 0x0101
	stunCookie      = 0x2112a442
	stunHead        = 20
)

var errAnswer = errors.New("answer does not fit the question")

func (binding) Ask(b []byte, n uint64) int {
	clear(b[:stunHead])
	binary.BigEndian.PutUint16(b, bindingRequest)
	binary.BigEndian.PutUint32(b[4:], stunCookie)
	binary.BigEndian.PutUint64(b[8:], n)
	return stunHead
}

func (binding) Check(b []byte) error {
	if len(b) <= stunHead || binary.BigEndian.Uint16(b) != bindingResponse || binary.BigEndian.Uint32(b[4:]) != stunCookie {
		return errAnswer
	}
	return nil
}

func startCoturn(ctx context.Context, r *running, at paths) (to netip.AddrPort, err error) {
	ports, err := freePorts(1)
	if err != nil {
		return to, err
	}
	to = ports[0]
	return to, r.program(ctx, "turnserver", at["turnserver"], to, "-n", "-L", to.Addr().String(), "-p", fmt.Sprint(to.Port()),
		"--stun-only", "--no-auth", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "--no-stdout-log", "--pidfile", r.dir+"/pid")
}

// value is what memcached holds under key.
var value = strings.Repeat("culvert…", 20)

const key = "bench"

// get asks memcached by UDP. A frame begins with request, sequence, count of datagrams, and two bytes that are zero.
type get struct{}

func (get) Ask(b []byte, n uint64) int {
	binary.BigEndian.PutUint16(b, uint16(n))
	copy(b[2:], []byte{0, 0, 0, 1, 0, 0})
	return 8 + copy(b[8:], "get "+key+"\r\n")
}

func (get) Check(b []byte) error {
	if len(b) < 8 || !bytes.HasPrefix(b[8:], []byte("VALUE "+key+" 0 200\r\n")) || !bytes.HasSuffix(b, []byte(value+"\r\nEND\r\n")) {
		return errAnswer
	}
	return nil
}

func startMemcached(ctx context.Context, r *running, at paths) (to netip.AddrPort, err error) {
	ports, err := freePorts(1)
	if err != nil {
		return to, err
	}
	to = ports[0]
	port := fmt.Sprint(to.Port())
	if err := r.program(ctx, "memcached", at["memcached"], to, "-l", to.Addr().String(), "-p", port, "-U", port, "-u", "nobody"); err != nil {
		return to, err
	}
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		return to, err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "set %s 0 0 %d\r\n%s\r\n", key, len(value), value); err != nil {
		return to, err
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "STORED\r\n" {
		return to, fmt.Errorf("memcached says %q, %w", line, err)
	}
	return to, nil
}

var (
	_ echo.Asker = binding{}
	_ echo.Asker = get{}
)
