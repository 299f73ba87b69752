package portmap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	must(t, "hex", err)
	return b
}

func TestGoldenRequests(t *testing.T) {
	own4, own6 := netip.MustParseAddr("192.168.1.30"), netip.MustParseAddr("2a0e:4d77::30")
	m := pcpMapping{nonce: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, proto: 6, inside: 7700, outside: 7701, life: 3600}
	known := m
	known.external = netip.MustParseAddr("203.0.113.7")
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"nat-pmp tcp":  {appendPMPMap(nil, pmpTCP, 7700, 7701, 3600), "00 02 0000 1e14 1e15 00000e10"},
		"nat-pmp end":  {appendPMPMap(nil, pmpUDP, 7700, 0, 0), "00 01 0000 1e14 0000 00000000"},
		"pcp announce": {appendPCPHeader(nil, pcpAnnounce, 0, own4), "02 00 0000 00000000 00000000000000000000ffffc0a8011e"},
		"pcp map":      {appendPCPMap(nil, own4, m), "02 01 0000 00000e10 00000000000000000000ffffc0a8011e 0102030405060708090a0b0c 06 000000 1e14 1e15 00000000000000000000ffff00000000"},
		"pcp again":    {appendPCPMap(nil, own4, known), "02 01 0000 00000e10 00000000000000000000ffffc0a8011e 0102030405060708090a0b0c 06 000000 1e14 1e15 00000000000000000000ffffcb007107"},
		"pcp six":      {appendPCPMap(nil, own6, m), "02 01 0000 00000e10 2a0e4d77000000000000000000000030 0102030405060708090a0b0c 06 000000 1e14 1e15 00000000000000000000000000000000"},
	} {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, c.got, want)
		}
	}
	want := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
	if got := string(appendSearch(nil, "239.255.255.250:1900", searchTargets[1])); got != want {
		t.Errorf("search: %q", got)
	}
}

const (
	goldenAddress = "00 80 0000 000003e8 cb007107"
	goldenMapped  = "00 82 0000 000003e8 1e14 1e15 00000e10"
	goldenPCP     = "02 81 00 00 00000e10 000003e8 000000000000000000000000 0102030405060708090a0b0c 06 000000 1e14 1e15 00000000000000000000ffffcb007107"
)

func TestGoldenAnswers(t *testing.T) {
	a, err := parsePMP(unhex(t, goldenAddress), pmpAddress, 0)
	if err != nil || a.external != netip.MustParseAddr("203.0.113.7") || a.epoch != 1000 {
		t.Errorf("%+v %v", a, err)
	}
	if a, err = parsePMP(unhex(t, goldenMapped), pmpTCP, 7700); err != nil || a.outside != 7701 || a.life != 3600 || a.epoch != 1000 {
		t.Errorf("%+v %v", a, err)
	}
	asked := pcpMapping{nonce: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, proto: 6, inside: 7700}
	m, e, err := parsePCPMap(unhex(t, goldenPCP), asked)
	if err != nil || m.outside != 7701 || m.life != 3600 || m.external != netip.MustParseAddr("203.0.113.7") || e != 1000 {
		t.Errorf("%+v %v", m, err)
	}
	var no *refusedError
	if _, err := parsePMP(unhex(t, "00 82 0003 000003e8 1e14 0000 00000000"), pmpTCP, 7700); !errors.As(err, &no) || no.code != 3 {
		t.Errorf("%v", err)
	}
	b := unhex(t, goldenPCP)
	b[3] = 8
	if _, _, err := parsePCPMap(b, asked); !errors.As(err, &no) || no.code != 8 {
		t.Errorf("%v", err)
	}
	b[24] ^= 1 // somebody else's refusal
	if _, _, err := parsePCPMap(b, asked); !errors.Is(err, errForeign) {
		t.Errorf("%v", err)
	}
	if _, _, err := parsePCP(unhex(t, "00 80 0001 000003e8"), pcpAnnounce); !errors.As(err, &no) || no.code != 1 {
		t.Errorf("a NAT-PMP router: %v", err)
	}
	for _, golden := range []string{goldenAddress, goldenMapped, goldenPCP} {
		whole := unhex(t, golden)
		for n := range len(whole) {
			_, err1 := parsePMP(whole[:n], pmpAddress, 0)
			_, err2 := parsePMP(whole[:n], pmpTCP, 7700)
			_, _, err3 := parsePCPMap(whole[:n], asked)
			if err1 == nil || err2 == nil || err3 == nil {
				t.Errorf("%d bytes of %s: %v %v %v", n, golden, err1, err2, err3)
			}
		}
	}
}

func FuzzAnswers(f *testing.F) {
	for _, s := range []string{goldenAddress, goldenMapped, goldenPCP, "00 80 0001 000003e8"} {
		f.Add(unhex(f, s))
	}
	asked := pcpMapping{nonce: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, proto: 6, inside: 7700}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parsePMP(b, pmpAddress, 0); err == nil && !a.external.Is4() {
			t.Errorf("%+v", a)
		}
		_, _ = parsePMP(b, pmpTCP, 7700)
		if m, _, err := parsePCPMap(b, asked); err == nil && (m.nonce != asked.nonce || m.external.Is4In6() || m.inside != asked.inside) {
			t.Errorf("%+v", m)
		}
	})
}

const searchReply = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLocation:http://192.168.1.1:5000/rootDesc.xml\r\n\r\n"

func TestSearchReply(t *testing.T) {
	if l, err := parseSearchReply([]byte(searchReply)); err != nil || l != "http://192.168.1.1:5000/rootDesc.xml" {
		t.Errorf("%q %v", l, err)
	}
	for _, bad := range []string{
		"", "HTTP/1.1 404 No\r\n\r\n", "NOTIFY * HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1/\r\n\r\n",                        // of what kind?
		"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: http://192.168.1.1/\r\n\r\n", // of another kind
		"HTTP/1.1 200 OK\r\nnonsense\r\n" + searchReply[17:],
		searchReply + strings.Repeat("x", ssdpReplyMax),
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", ssdpHeadersMax) + searchReply[17:],
	} {
		if l, err := parseSearchReply([]byte(bad)); err == nil {
			t.Errorf("%.60q: %q", bad, l)
		}
	}
}

func TestLocation(t *testing.T) {
	router := netip.MustParseAddr("192.168.1.1")
	may := func(a netip.Addr) bool { return a == router || a == netip.MustParseAddr("fe80::1") }
	for _, good := range []string{"http://192.168.1.1/", "http://192.168.1.1:5000/rootDesc.xml?x=1", "http://[fe80::1]:5000/", "http://[fe80::1%25eth0]:5000/"} {
		if _, err := parseLocation(good, may); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "/rootDesc.xml", "//192.168.1.1/", "https://192.168.1.1/", "ftp://192.168.1.1/", "file:///etc/passwd", "http:192.168.1.1",
		"http://192.168.1.2/", "http://router/", "http://192.168.1.1.example.org/", "http://192.168.1.1@evil.example/", "http://a:b@192.168.1.1/",
		"http://[::ffff:192.168.1.1]/", "http://0300.0250.1.1/", "http://3232235777/", "http://192.168.1.1:x/", "http://127.0.0.1/", "http://[fe80::2]/",
		"http://192.168.1.1/" + strings.Repeat("x", locationMax),
	} {
		if u, err := parseLocation(bad, may); err == nil {
			t.Errorf("%.60s: %v", bad, u)
		}
	}
}

func TestDescription(t *testing.T) {
	at, err := url.Parse("http://192.168.1.1:5000/a/root.xml")
	must(t, "url", err)
	router := netip.MustParseAddr("192.168.1.1")
	may := func(a netip.Addr) bool { return a == router }
	for version, by := range map[int]string{1: ByIGD1, 2: ByIGD2} {
		l, err := parseDescription(fmt.Appendf(nil, rootXML, version, "/ctl/IPConn"), at, connectionURNs, may)
		if err != nil || len(l) != 1 || l[0].by() != by || l[0].control.String() != "http://192.168.1.1:5000/ctl/IPConn" {
			t.Errorf("version %d: %+v %v", version, l, err)
		}
	}
	for _, bad := range []string{"http://192.168.1.2/ctl", "http://evil.example/ctl", "//evil.example/ctl", "http://192.168.1.1:5000@evil.example/"} {
		if l, err := parseDescription(fmt.Appendf(nil, rootXML, 1, bad), at, connectionURNs, may); err == nil && l[0].control.Hostname() != router.String() {
			t.Errorf("%s: %+v", bad, l)
		}
	}
	if _, err := parseDescription([]byte("<root/>"), at, pinholeURNs, may); err == nil {
		t.Error("a description of nothing")
	}
}

func FuzzUPnP(f *testing.F) {
	f.Add([]byte(searchReply))
	f.Add(fmt.Appendf(nil, rootXML, 2, "/ctl"))
	f.Add([]byte("http://[fe80::1%25eth0]:5000/"))
	router := netip.MustParseAddr("192.168.1.1")
	may := func(a netip.Addr) bool { return a == router }
	at, _ := url.Parse("http://192.168.1.1:5000/root.xml")
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseSearchReply(b)
		if u, err := parseLocation(string(b), may); err == nil && u.Hostname() != router.String() {
			t.Errorf("%q leads to %s", b, u)
		}
		l, err := parseDescription(b, at, slices.Concat(connectionURNs, pinholeURNs), may)
		for _, s := range l {
			if s.control.Hostname() != router.String() || err != nil {
				t.Errorf("%q leads to %s", b, s.control.String())
			}
		}
	})
}

func TestUsable(t *testing.T) {
	for s, want := range map[string]bool{
		"203.0.113.7": true, "8.8.8.8": true, "100.63.255.255": true, "100.128.0.0": true, "2a0e:4d77::30": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.1.1.1": false, "172.16.0.1": false, "192.168.0.1": false, "100.64.0.1": false, "100.127.255.255": false,
		"127.0.0.1": false, "169.254.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "::ffff:8.8.8.8": false,
	} {
		if got := usable(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
	if usable(netip.Addr{}) {
		t.Error("no address")
	}
}

func TestEpoch(t *testing.T) {
	start := time.Unix(1e9, 0)
	at := func(seconds uint32, after time.Duration) epoch { return epoch{true, seconds, start.Add(after)} }
	before := at(1000, 0)
	for name, c := range map[string]struct {
		now  epoch
		want bool
	}{
		"goes on":                {at(1060, time.Minute), false},
		"a little slow":          {at(1056, time.Minute), false},
		"a little fast":          {at(1064, time.Minute), false},
		"asked twice at once":    {at(999, 0), false},
		"from zero":              {at(3, time.Minute), true},
		"back a little":          {at(990, 0), true},
		"stood still":            {at(1000, time.Minute), true},
		"far ahead":              {at(5000, time.Minute), true},
		"unknown":                {epoch{}, false},
		"about to overflow":      {at(1<<32-1, time.Minute), true},
		"after a day of silence": {at(1000+86400, 24*time.Hour), false},
	} {
		if got := before.restarted(c.now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if (epoch{}).restarted(before) {
		t.Error("the first one")
	}
}

func TestOutsidePorts(t *testing.T) {
	a, b := netip.MustParseAddr("192.168.1.30"), netip.MustParseAddr("192.168.1.31")
	first, second := outsidePorts(7700, a, 0), outsidePorts(7700, b, 0)
	if first[0] != 7700 || second[0] != 7700 || slices.Equal(first, second) || !slices.Equal(first, outsidePorts(7700, a, 0)) {
		t.Errorf("%v %v", first, second)
	}
	if l := outsidePorts(7700, a, 40123); l[0] != 40123 || l[1] != 7700 || len(l) > 8 || slices.Min(l) < 1024 {
		t.Errorf("%v", l)
	}
}
