//go:build linux && netlab

package lab_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/bench/netlab/lab"
)

// Each router maps a port by its protocol, and answers no other. A reboot with
// a new address forgets the mapping.
func TestMapper(t *testing.T) {
	for kind, mapPort := range map[lab.Kind]func(*testing.T, street){
		lab.UPnP1:  func(t *testing.T, w street) { upnpMap(t, w, 1) },
		lab.UPnP2:  func(t *testing.T, w street) { upnpMap(t, w, 2) },
		lab.NATPMP: natpmpMap,
		lab.PCP:    pcpMap,
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := newStreet(t, kind)
			accept(t, w.inside, ":9100")
			if reaches(t, w.public, "45.55.0.2:9100", false) {
				t.Fatal("it is reached before it is mapped")
			}
			mapPort(t, w)
			if !reaches(t, w.public, "45.55.0.2:9100", true) {
				t.Error("what was mapped is not reached")
			}
			if err := w.site.FlushNAT(); err != nil {
				t.Fatal(err)
			}
			if !reaches(t, w.public, "45.55.0.2:9100", true) {
				t.Error("a flush takes the mapping")
			}
			if err := w.site.Reboot(netip.MustParsePrefix("45.56.0.2/24")); err != nil {
				t.Fatal(err)
			}
			if w.site.WAN != netip.MustParseAddr("45.56.0.2") {
				t.Errorf("the address is %s", w.site.WAN)
			}
			accept(t, w.public, ":80")
			if reaches(t, w.public, "45.56.0.2:9100", false) || !reaches(t, w.inside, at(w.public, 80).String(), true) {
				t.Error("after the reboot the mapping lives, or nothing gets out")
			}
			w.site.WAN = netip.MustParseAddr("45.56.0.2")
			mapPort(t, w)
			if !reaches(t, w.public, "45.56.0.2:9100", true) {
				t.Error("what was mapped after the reboot is not reached")
			}
		})
	}
}

// ask sends a datagram to the router's port 5351.
func ask(t *testing.T, w street) net.Conn {
	t.Helper()
	conn := must[net.Conn](t)(w.inside.Dial(t.Context(), "udp4", "192.168.50.1:5351"))
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// natpmpRequest maps TCP 9100 (RFC 6886 section 3.3), pcpRequest by MAP
// (RFC 6887 section 11.1).
func natpmpRequest() []byte {
	return []byte{0, 2, 0, 0, 0x23, 0x8c, 0x23, 0x8c, 0, 0, 0x0e, 0x10}
}

func pcpRequest(client netip.Addr) []byte {
	b := []byte{2, 1, 0, 0}
	b = binary.BigEndian.AppendUint32(b, 3600)
	mapped := client.As16()
	b = append(b, mapped[:]...)
	b = append(b, "123456789012"...) // nonce
	b = append(b, 6, 0, 0, 0, 0x23, 0x8c, 0x23, 0x8c)
	return append(b, netip.MustParseAddr("::ffff:0.0.0.0").AsSlice()...)
}

func natpmpMap(t *testing.T, w street) {
	noUPnP(t, w)
	conn := ask(t, w)
	conn.Write(pcpRequest(w.inside.Addr())) // is heard by nobody
	conn.Write(natpmpRequest())
	answer := make([]byte, 100)
	n, err := conn.Read(answer)
	if err != nil || n != 16 || !bytes.Equal(answer[:4], []byte{0, 130, 0, 0}) {
		t.Fatalf("answered % x, %v; want a NAT-PMP mapping", answer[:n], err)
	}
}

func pcpMap(t *testing.T, w street) {
	noUPnP(t, w)
	conn := ask(t, w)
	conn.Write(natpmpRequest()) // is heard by nobody
	conn.Write(pcpRequest(w.inside.Addr()))
	answer := make([]byte, 100)
	n, err := conn.Read(answer)
	if err != nil || n != 60 || !bytes.Equal(answer[:4], []byte{2, 129, 0, 0}) {
		t.Fatalf("answered % x, %v; want a PCP mapping", answer[:n], err)
	}
}

func noUPnP(t *testing.T, w street) {
	t.Helper()
	if reaches(t, w.inside, "192.168.50.1:5000", false) {
		t.Error("UPnP is there too")
	}
}

func upnpMap(t *testing.T, w street, version int) {
	conn := ask(t, w)
	conn.Write(natpmpRequest())
	if _, err := conn.Read(make([]byte, 100)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("port 5351 answers: %v", err)
	}
	ssdp := udp(t, w.inside, "0")
	service := fmt.Sprintf("urn:schemas-upnp-org:service:WANIPConnection:%d", version)
	send(t, ssdp, netip.MustParseAddrPort("239.255.255.250:1900"),
		"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nST: "+service+"\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\r\n")
	text, _ := receive(t, ssdp)
	if !strings.Contains(text, service) || !strings.Contains(text, "LOCATION: http://192.168.50.1:5000/") {
		t.Errorf("discovery: %q", text)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return w.inside.Dial(ctx, network, address)
	}}}
	body := must[string](t)(read(client.Get("http://192.168.50.1:5000/rootDesc.xml")))
	if !strings.Contains(body, fmt.Sprintf("InternetGatewayDevice:%d", version)) || !strings.Contains(body, service) {
		t.Errorf("the router is described as %s", body)
	}
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, "http://192.168.50.1:5000/ctl/IPConn", strings.NewReader(
		`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:AddPortMapping xmlns:u="`+service+`">`+
			`<NewRemoteHost></NewRemoteHost><NewExternalPort>9100</NewExternalPort><NewProtocol>TCP</NewProtocol><NewInternalPort>9100</NewInternalPort>`+
			`<NewInternalClient>192.168.50.10</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>test</NewPortMappingDescription>`+
			`<NewLeaseDuration>3600</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>`)))
	req.Header.Set("SOAPAction", `"`+service+`#AddPortMapping"`)
	req.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
	if body := must[string](t)(read(client.Do(req))); !strings.Contains(body, "AddPortMappingResponse") {
		t.Fatalf("the mapping is refused: %s", body)
	}
}

func read(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}
