package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestExampleIsDefault(t *testing.T) {
	got, err := Parse("example.toml", []byte(Example()))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.ListenSet = true
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example differs from the defaults:\n%+v\n%+v", got, want)
	}
}

func TestExampleConsent(t *testing.T) {
	text := Example()
	i := strings.Index(text, "# [[consent]]")
	got, err := Parse("example.toml", []byte(text[:i]+strings.ReplaceAll(text[i:], "# ", "")))
	if err != nil {
		t.Fatal(err)
	}
	want := []Consent{{Device: "printer-2", Ports: []Port{{Number: 9100}, {Number: 161, UDP: true}}, Groups: []string{}}}
	if !reflect.DeepEqual(got.Consent, want) {
		t.Errorf("got %+v, want %+v", got.Consent, want)
	}
}

// TestEverySettingIsKnown holds struct, list of settings, example and package doc together.
func TestEverySettingIsKnown(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var c Config
	listed := map[string]any{}
	for _, s := range c.settings() {
		listed[s.name] = s.target
	}
	var walk func(v reflect.Value, table string)
	walk = func(v reflect.Value, table string) {
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("toml")
			if name == "-" {
				continue
			}
			if v.Field(i).Kind() == reflect.Struct {
				walk(v.Field(i), name+".")
				continue
			}
			if !strings.Contains(string(doc), "//\t"+table+name+" ") {
				t.Errorf("%s%s is not in the package doc", table, name)
			}
			if name == "consent" {
				continue
			}
			if !strings.Contains(Example(), "\n"+name+" = ") {
				t.Errorf("%s%s is not in the example", table, name)
			}
			if listed[table+name] != v.Field(i).Addr().Interface() {
				t.Errorf("%s%s cannot be set by flag and environment", table, name)
			}
			delete(listed, table+name)
		}
	}
	walk(reflect.ValueOf(&c).Elem(), "")
	for name := range listed {
		t.Errorf("%s is listed and does not exist", name)
	}
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	text := "listen = \":1\"\nroutes = [\"lan\"]\n[limits]\nconnections = 1\ntunnels = 1\n[log]\nlevel = \"warn\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CULVERT_LISTEN": ":2", "CULVERT_LIMITS_CONNECTIONS": "2", "CULVERT_SUPER": "true", "CULVERT_ROUTES": "lan, relayed", "CULVERT_OTHER": "x"}
	c, err := Load(Sources{
		File: file, FileRequired: true,
		Getenv: func(k string) string { return env[k] },
		Flags:  map[string]string{"listen": ":3", "no-tunnel": "true", "timeouts.open": "5s", "limits.relay-rate": "10MB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":3" || !c.ListenSet || c.Limits.Connections != 2 || c.Limits.Tunnels != 1 || c.Log.Level != "warn" ||
		!c.Super || c.Tunnel || c.Timeouts.Open.D() != 5*time.Second || c.Limits.RelayRate != 10e6 || len(c.Routes) != 2 || !c.Sessions {
		t.Errorf("got %+v", c)
	}
}

func TestListenSet(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "config.toml")
	c, err := Load(Sources{File: missing})
	if err != nil || c.ListenSet || c.Listen != ":7700" {
		t.Errorf("defaults: %v, %+v", err, c)
	}
	if _, err := Load(Sources{File: missing, FileRequired: true}); err == nil || errors.Is(err, ErrConfig) {
		t.Errorf("a required file that is missing: %v", err)
	}
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"super = false\nlistn = \":1\"\n", `f.toml:2: there is no setting "listn"`},
		{"[limits]\n\nconections = 3\n", `f.toml:3: there is no setting "limits.conections"`},
		{"[nonsense]\nx = 1\n", `f.toml:1: there is no setting "nonsense"`},
		{"[[consent]]\ndevice = \"d\"\nport = [\"1\"]\n", `f.toml:3: there is no setting "consent.port"`},
		{"super = maybe\n", "f.toml:1:"},
		{"portmap = no\n", "f.toml:1:11: write true, false, a number"},
		{"super = \"yes\"\n", "f.toml:1:9: super: write true or false, without quotes"},
		{"routes = \"lan\"\n", "routes: write a list of texts"},
		{"socks = 1080\n", "socks: write a text, in quotes"},
		{"[limits]\ntunnels = \"5\"\n", "f.toml:2:11: limits.tunnels: write a whole number"},
		{"log = 5\n", "log: this is a table"},
		{"proxy = \"http://me:secret@proxy:99999\"", "its port is not between"},
		{"super = true\nsuper = true\n", "f.toml:"},
		{"super = true\n[timeouts]\nopen = \"5\"\n", "f.toml:3:8: timeouts.open: \"5\" is not a duration"},
		{"[timeouts]\nopen = 5\n", "f.toml:2: timeouts.open: 5ns"},
		{"[[consent]]\ndevice = \"d\"\nports = [\"0\"]\n", "f.toml:3:"},
		{"super=true\nlisten = \"\"", "f.toml:2: listen: "},
		{"listen = \"7700\"", "write it as \":7700\""},
		{"listen = \":70000\"", "listen: "},
		{"listen = \"printer:1\"", "listen: "},
		{"routes = []", "routes: none left"},
		{"routes = [\"lan\", \"carrier-pigeon\"]", "carrier-pigeon"},
		{"routes = [\"lan\", \"lan\"]", "named twice"},
		{"advertise = [\"0.0.0.0:7700\"]", "advertise: "},
		{"advertise = [\"a b\"]", "advertise: "},
		{"audit_bind = [\"192.0.2.1:7700\"]", "audit_bind: "},
		{"audit_bind = [\"0.0.0.0\"]", "audit_bind: "},
		{"advertise = [\"a:0\"]", "advertise: "},
		{"api = \"0.0.0.0:80\"", "not a loopback address"},
		{"socks = \"192.168.1.2:1080\"", "socks: \"192.168.1.2:1080\" is not a loopback address"},
		{"socks = \":1080\"", "not a loopback address"},
		{"socks_user = \"anna\"", "socks_user: socks_user and socks_password go together"},
		{"socks_password = \"x\"", "set both or none"},
		{"socks_user = \"a\"\nsocks_password = \"" + strings.Repeat("x", 256) + "\"", "longer than the 255 bytes"},
		{"proxy = \"ftp://me:secret@proxy\"", "http://USER:PASSWORD@HOST:PORT"},
		{"listen_https = \"everywhere\"", "\"auto\" or \"off\""},
		{"listen_http = \":http\"", "\"auto\" or \"off\""},
		{"super = true\nlisten = \":443\"", "choose another"},
		{"super = true\nadvertise = [\"node.example.org:80\"]", "choose another"},
		{"log.level = \"loud\"", "debug, info, warn, error"},
		{"log.format = \"xml\"", "text, json"},
		{"\nlimits.tunnels = 0", "f.toml:2: limits.tunnels: 0 is not between"},
		{"timeouts.open = \"-5s\"", "timeouts.open: "},
		{"record_expiry = \"5m\"", "announcements would lapse"},
		{"record_expiry = \"1h\"", "super-nodes do not take"},
		{"[[consent]]\nports = [\"1\"]", "device must name"},
		{"[[consent]]\ndevice = \"c\"\nports=[\"1\"]\n[[consent]]\ndevice = \"d\"", "f.toml:4: consent: \"d\": ports is empty"},
		{"[[consent]]\ndevice = \"d\"\nports=[\"1\"]\ngroups=[\"\"]", "groups holds"},
	} {
		_, err := Parse("f.toml", []byte(c.text))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestFlagAndEnvironmentErrors(t *testing.T) {
	for _, c := range []struct {
		s    Sources
		want string
	}{
		{Sources{Flags: map[string]string{"frobnicate": "1"}}, "there is no flag --frobnicate"},
		{Sources{Flags: map[string]string{"super": "perhaps"}}, "--super: \"perhaps\""},
		{Sources{Flags: map[string]string{"no-tunnel": "perhaps"}}, "--no-tunnel"},
		{Sources{Flags: map[string]string{"limits.tunnels": "many"}}, "--limits.tunnels"},
		{Sources{Getenv: func(k string) string { return map[string]string{"CULVERT_TIMEOUTS_OPEN": "soon"}[k] }}, "CULVERT_TIMEOUTS_OPEN in the environment"},
	} {
		if _, err := Load(c.s); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "17": 17, "1 KiB": 1024, "3kB": 3000, "2MiB": 2 << 20, "64GiB": 64 << 30, "5B": 5} {
		var b, again Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q: %v, %v", text, b, err)
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q: %v does not read back: %v", text, b, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5GB", "99999999TiB", "GB", "1EB"} {
		var b Bytes
		if b.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is taken as %v", text, b)
		}
	}
	for text, want := range map[string]Port{"631": {Number: 631}, "631/tcp": {Number: 631}, "161/udp": {Number: 161, UDP: true}} {
		if p, err := ParsePort(text); err != nil || p != want {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "0", "65536", "-1", "+1", "1/", "1/sctp", "/udp", "1 ", "http"} {
		if p, err := ParsePort(text); err == nil {
			t.Errorf("%q is taken as %v", text, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Example()))
	f.Add([]byte("[[consent]]\ndevice = \"printer-2\"\nports = [\"9100\", \"161/udp\"]\ngroups = []\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz", data)
		if err == nil && c.check() != nil {
			t.Error("an accepted configuration does not pass its own check")
		}
		if err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("not marked as a configuration error: %v", err)
		}
	})
}
