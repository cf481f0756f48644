package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
)

func TestHideSecrets(t *testing.T) {
	deep := strings.Repeat(`{"a":`, maxNested+5) + `{"password":"hunter2hunter2"}` + strings.Repeat("}", maxNested+5)
	for name, c := range map[string]struct{ attributes, want string }{
		"none":      {`{"status":200,"n":9007199254740993}`, `{"status":200,"n":9007199254740993}`},
		"named":     {`{"password":"hunter2","n":9007199254740993}`, `{"n":9007199254740993,"password":"***"}`},
		"number":    {`{"api_token":12345678901234,"x":"<&>"}`, `{"api_token":"***","x":"<&>"}`},
		"in a text": {`{"args":["--password=hunter2","-v"]}`, `{"args":["--password=***","-v"]}`},
		"list":      {`{"tokens":["a","b"],"secret":{"secretName":"db"}}`, `{"secret":{"secretName":"db"},"tokens":["***","***"]}`},
		"not JSON":  {`{"password":"hunter2"`, `{"hidden":"attributes that hold a secret and are not JSON"}`},
		"deep":      {deep, ``},
	} {
		e := &event.Event{Attributes: json.RawMessage(c.attributes)}
		hideSecrets(e)
		if got := string(e.Attributes); c.want != "" && got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
		if !json.Valid(e.Attributes) {
			t.Errorf("%s: %s is not JSON", name, e.Attributes)
		}
		if strings.Contains(string(e.Attributes), "hunter2") {
			t.Errorf("%s: the secret is still there: %s", name, e.Attributes)
		}
	}
	e := &event.Event{Message: "login with password=hunter2 from 10.0.0.1", Cmdline: "mysql --password=hunter2 shop", Path: "/x?token=hunter2hunter2", SHA256: strings.Repeat("a", 64)}
	hideSecrets(e)
	if strings.Contains(e.Message+e.Cmdline+e.Path, "hunter2") || !strings.Contains(e.Message, "10.0.0.1") || e.SHA256 == "" {
		t.Errorf("%+v", e)
	}
}
