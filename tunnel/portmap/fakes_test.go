package portmap

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
)

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	public   = netip.MustParseAddr("203.0.113.7")
	here     = Gateway{Addr: loopback, Local: loopback, Interface: "lo"}
)

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// entry is a mapping that a fake router holds.
type entry struct {
	client string
	inside int
	lease  int
}

// fake is a router at 127.0.0.1 that speaks whatever is switched on. What it does wrong is set before it is started, or under mu.
type fake struct {
	t         *testing.T
	version   int    // of the IGD; 0: no UPnP
	location  string // instead of its own
	web       http.HandlerFunc
	pmp, pcp  bool
	permanent bool   // knows no leases
	foreign   string // shows this internal client for what it was asked to add
	wrong     func(reply []byte) []byte

	mu       sync.Mutex
	external netip.Addr
	table    map[string]entry // "TCP 7700"
	epoch    uint32
	actions  []string
	lives    []uint32

	ports   ports
	server  *httptest.Server
	closers []io.Closer
	running sync.WaitGroup
}

func (f *fake) start(t *testing.T) *fake {
	t.Helper()
	f.t = t
	if f.table == nil {
		f.table = make(map[string]entry)
	}
	if !f.external.IsValid() {
		f.external = public
	}
	f.epoch, f.ports.search = 1000, 400*time.Millisecond
	if f.version > 0 && f.web == nil {
		f.ports.search = probeTimeout // it is over with the answer, which takes its time on a busy machine
	}
	f.server = httptest.NewServer(http.HandlerFunc(f.http))
	f.ports.pmp = f.serve(func(b []byte) []byte { return f.portControl(b) })
	f.ports.ssdp = f.serve(func(b []byte) []byte { return f.search(b) })
	t.Cleanup(func() {
		for _, c := range f.closers {
			_ = c.Close()
		}
		f.running.Wait()
		f.server.Close()
	})
	return f
}

func (f *fake) serve(answer func([]byte) []byte) uint16 {
	f.t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(f.t, "listen", err)
	f.closers = append(f.closers, conn)
	f.running.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			f.mu.Lock()
			reply := answer(b[:n])
			if reply != nil && f.wrong != nil {
				reply = f.wrong(reply)
			}
			f.mu.Unlock()
			if reply != nil {
				_, _ = conn.WriteToUDPAddrPort(reply, from)
			}
		}
	})
	return uint16(conn.LocalAddr().(*net.UDPAddr).Port)
}

func (f *fake) portControl(b []byte) []byte {
	switch {
	case f.pmp && len(b) == 2 && b[0] == 0 && b[1] == 0:
		return append(f.pmpHead(0), f.external.AsSlice()...)
	case f.pmp && len(b) == 12 && b[0] == 0:
		inside, outside, life := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint32(b[8:])
		f.put(map[byte]string{1: "UDP", 2: "TCP"}[b[1]], int(outside), entry{loopback.String(), int(inside), int(life)})
		r := f.pmpHead(b[1])
		r = binary.BigEndian.AppendUint16(r, inside)
		r = binary.BigEndian.AppendUint16(r, outside)
		return binary.BigEndian.AppendUint32(r, life)
	case f.pcp && len(b) >= pcpHeader && b[0] == pcpVersion:
		r := []byte{2, b[1] | 0x80, 0, 0}
		r = append(r, b[4:8]...)
		r = binary.BigEndian.AppendUint32(r, f.epoch)
		r = append(r, make([]byte, 12)...)
		if b[1] == pcpMap && len(b) == pcpMapSize {
			life := binary.BigEndian.Uint32(b[4:])
			outside := int(binary.BigEndian.Uint16(b[42:]))
			f.put(map[byte]string{17: "UDP", 6: "TCP"}[b[36]], outside, entry{loopback.String(), int(binary.BigEndian.Uint16(b[40:])), int(life)})
			a := f.external.As16()
			r = append(append(r, b[24:44]...), a[:]...)
		}
		return r
	case f.pmp && len(b) >= 2:
		return binary.BigEndian.AppendUint32([]byte{0, b[1] | 0x80, 0, 1}, f.epoch) // unsupported version
	}
	return nil
}

func (f *fake) pmpHead(op byte) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, op | 0x80, 0, 0}, f.epoch)
}

// put adds an entry, or with life 0 deletes those of that inside.
func (f *fake) put(proto string, outside int, e entry) {
	f.lives = append(f.lives, uint32(e.lease))
	if e.lease > 0 {
		f.table[fmt.Sprintf("%s %d", proto, outside)] = e
		return
	}
	for k, o := range f.table {
		if strings.HasPrefix(k, proto) && o.inside == e.inside {
			delete(f.table, k)
		}
	}
}

func (f *fake) search(b []byte) []byte {
	st := regexp.MustCompile(`(?m)^ST: (.*)\r$`).FindSubmatch(b)
	if st == nil || f.version == 0 && f.location == "" {
		return nil
	}
	at := f.location
	if at == "" {
		at = f.server.URL + "/root.xml"
	}
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: %s\r\nUSN: uuid:1::x\r\nEXT:\r\nLOCATION: %s\r\n\r\n", st[1], at)
}

// patience is how long an event that must come is waited for, however slow and busy the machine is.
const patience = 2 * time.Minute

const rootXML = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:%[1]d</deviceType><friendlyName>router</friendlyName><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANDevice:%[1]d</deviceType><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:%[1]d</deviceType><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:%[1]d</serviceType><controlURL>%[2]s</controlURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>`

func (f *fake) http(w http.ResponseWriter, r *http.Request) {
	if f.web != nil {
		f.web(w, r)
		return
	}
	if r.Method == http.MethodGet {
		fmt.Fprintf(w, rootXML, f.version, "/ctl")
		return
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	arg := func(name string) string {
		if m := regexp.MustCompile("<" + name + ">(.*?)</" + name + ">").FindSubmatch(body); m != nil {
			return string(m[1])
		}
		return ""
	}
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPAction"), `"`), "#")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actions = append(f.actions, action)
	answer, fault := f.soap(action, arg)
	if fault != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>no</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>`, fault)
		return
	}
	fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:%[1]sResponse xmlns:u="urn:x">%[2]s</u:%[1]sResponse></s:Body></s:Envelope>`, action, answer)
}

func (f *fake) soap(action string, arg func(string) string) (answer string, fault int) {
	outside, _ := strconv.Atoi(arg("NewExternalPort"))
	inside, _ := strconv.Atoi(arg("NewInternalPort"))
	lease, _ := strconv.Atoi(arg("NewLeaseDuration"))
	k := fmt.Sprintf("%s %d", arg("NewProtocol"), outside)
	old, taken := f.table[k]
	switch action {
	case "GetExternalIPAddress":
		if f.external.IsUnspecified() {
			return "<NewExternalIPAddress></NewExternalIPAddress>", 0
		}
		return "<NewExternalIPAddress>" + f.external.String() + "</NewExternalIPAddress>", 0
	case "AddPortMapping", "AddAnyPortMapping":
		if f.permanent && lease != 0 {
			return "", upnpPermanentOnly
		}
		f.lives = append(f.lives, uint32(lease))
		if taken && old.client != arg("NewInternalClient") {
			if action == "AddPortMapping" {
				return "", upnpConflict
			}
			outside = 40000
			k = fmt.Sprintf("%s %d", arg("NewProtocol"), outside)
		}
		f.table[k] = entry{arg("NewInternalClient"), inside, lease}
		if f.foreign != "" {
			f.table[k] = entry{f.foreign, inside, lease}
		}
		return fmt.Sprintf("<NewReservedPort>%d</NewReservedPort>", outside), 0
	case "GetSpecificPortMappingEntry":
		if !taken {
			return "", upnpNoSuchEntry
		}
		return fmt.Sprintf("<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>x</NewPortMappingDescription><NewLeaseDuration>%d</NewLeaseDuration>", old.inside, old.client, old.lease), 0
	case "DeletePortMapping":
		if !taken {
			return "", upnpNoSuchEntry
		}
		delete(f.table, k)
		return "", 0
	}
	return "", 401
}

// entries are those of ours.
func (f *fake) entries() map[string]entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := make(map[string]entry)
	for k, e := range f.table {
		if e.client == loopback.String() {
			l[k] = e
		}
	}
	return l
}

func mapping(l []Mapping, t protocol.Transport) (Mapping, bool) {
	for _, m := range l {
		if m.Protocol == t {
			return m, true
		}
	}
	return Mapping{}, false
}
