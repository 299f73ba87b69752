package client

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"culvert/node/client/api"
	"culvert/node/config"
	"culvert/node/localapi"
)

// fields lists the JSON names of a struct with their kinds.
func fields(t reflect.Type) map[string]string {
	out := map[string]string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" {
			continue
		}
		kind := kindOf(f.Type)
		if strings.Contains(options, "omitempty") {
			kind += " optional"
		}
		out[name] = kind
	}
	return out
}

func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Slice:
		return "[]" + kindOf(t.Elem())
	case reflect.Struct:
		return t.Name()
	}
	return t.Kind().String()
}

// TestServerAndDescriptionAgree compares what the server writes and reads with what openapi.yaml says, by way of the types
// that are generated from it.
func TestServerAndDescriptionAgree(t *testing.T) {
	for _, pair := range [][2]any{
		{localapi.Version{}, api.Version{}}, {localapi.Status{}, api.Status{}}, {localapi.Membership{}, api.Membership{}},
		{localapi.Messages{}, api.Messages{}}, {localapi.SuperNode{}, api.SuperNode{}}, {localapi.Location{}, api.Location{}}, {localapi.Device{}, api.Device{}},
		{localapi.Caller{}, api.Caller{}}, {localapi.Tunnel{}, api.Tunnel{}}, {localapi.Receipt{}, api.Receipt{}},
		{localapi.Attempt{}, api.Attempt{}}, {localapi.Served{}, api.Served{}}, {localapi.OpenRequest{}, api.OpenRequest{}},
		{localapi.JoinRequest{}, api.JoinRequest{}}, {localapi.LeaveRequest{}, api.LeaveRequest{}},
		{localapi.Netcheck{}, api.Netcheck{}}, {localapi.NetcheckFamily{}, api.NetcheckFamily{}},
		{localapi.NetcheckProbe{}, api.NetcheckProbe{}}, {localapi.NetcheckRoute{}, api.NetcheckRoute{}},
		{localapi.PortMapping{}, api.PortMapping{}}, {localapi.OpenFiles{}, api.OpenFiles{}}, {localapi.Event{}, api.Event{}}, {localapi.Error{}, api.Error{}},
	} {
		server, described := fields(reflect.TypeOf(pair[0])), fields(reflect.TypeOf(pair[1]))
		if !reflect.DeepEqual(server, described) {
			t.Errorf("%T:\nserver    %v\ndescribed %v", pair[0], server, described)
		}
	}
	for _, route := range config.RouteNames() {
		if !strings.Contains(string(localapi.Spec()), route) {
			t.Errorf("openapi.yaml does not name the route %s", route)
		}
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add("id: 1\nevent: tunnel_up\ndata: {\"sequence\":1,\"type\":\"tunnel_up\",\"time\":\"2026-11-21T00:00:00Z\"}\n\n")
	f.Add(": still here\n\n")
	f.Add("data: {\n")
	f.Fuzz(func(t *testing.T, text string) {
		if err := parseEvents(strings.NewReader(text), func(Event) bool { return true }); err == nil {
			t.Error("the end of a stream is an error")
		}
	})
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]*Error{
		"limit": {Code: "limit"}, "full": {Code: "limit", Message: "full"}, "full: wait": {Code: "limit", Message: "full", Hint: "wait"},
	} {
		if err.Error() != want || !errors.Is(err, ErrLimit) {
			t.Errorf("got %q, want %q", err.Error(), want)
		}
	}
	if errors.Is(&Error{Code: "limit"}, errors.New("limit")) || errors.Is(ErrLimit, &Error{Code: "limit", Message: "full"}) {
		t.Error("different errors are the same")
	}
	var e api.Error
	if err := json.Unmarshal([]byte(`{"error":"x","code":"limit"}`), &e); err != nil || e.Code != api.Limit {
		t.Errorf("%+v, %v", e, err)
	}
}
