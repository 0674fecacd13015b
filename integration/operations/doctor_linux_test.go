package operations

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// report is what is read of the report of "kvregistry doctor".
type report struct {
	Findings []struct{ Name, Severity, Seen, Mend string }
}

// mend returns the command that mends what a check found; empty if it found nothing.
func (r report) mend(check string) string {
	for _, f := range r.Findings {
		if f.Name == check {
			return f.Mend
		}
	}
	return ""
}

// doctor runs "kvregistry doctor".
func doctor(t *testing.T, program, url string) (r report) {
	t.Helper()
	cmd := exec.Command(program, "doctor", "--server", url, "--user", root, "--password", "p",
		"--tenant", "acme", "--watch", "100ms", "-o", "json")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	out, _ := cmd.Output() // the exit code is 1 if something is wrong
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// command is a command of a finding, without its first word.
var command = regexp.MustCompile(`\b(nats|kvregistry) ([a-z][^;,]*)`)

// The commands that "kvregistry doctor" gives for a bucket mend it, as they stand. Seen to fail
// with an argument of nats stream edit that sets another limit than the history.
func TestMendsOfTheDoctor(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "kvregistry")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program,
		"./cmd/kvregistry").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := guarded(t)
	js, err := jetstream.New(s.Connect(nats.UserInfo(root, "p")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "KV_registry_acme", Subjects: []string{"$KV.registry_acme.>"}, MaxMsgsPerSubject: 5,
		MaxAge: time.Hour, MaxConsumers: 4, Duplicates: time.Minute, AllowDirect: true,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "$KV.registry_acme.svc.web.1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"reaper", "d1", "d2"} {
		if _, err := js.CreateConsumer(t.Context(), "KV_registry_acme",
			jetstream.ConsumerConfig{Durable: name}); err != nil {
			t.Fatal(err)
		}
	}
	l := login{s.URL(), root}
	for _, check := range []string{"bucket-settings", "consumers", "older-version", "advice",
		"unreadable"} {
		found := doctor(t, program, s.URL())
		mend := found.mend(check)
		all := command.FindAllStringSubmatch(mend, -1)
		if all == nil {
			t.Errorf("%s: no command in %q of %+v", check, mend, found)
			continue
		}
		last := all[len(all)-1]
		args := strings.Fields(strings.ReplaceAll(last[2], "SERVICE/ID", "web/1"))
		var out string
		var code int
		if last[1] == "nats" {
			out, code = l.confirm(t, args...)
		} else {
			text, err := exec.Command(program, append(args, "--server", s.URL(), "--user", root,
				"--password", "p")...).CombinedOutput()
			if out = string(text); err != nil {
				code = 1
			}
		}
		if code != fine {
			t.Errorf("%s: %s: exit code %d: %s", check, mend, code, out)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if still := doctor(t, program, s.URL()).mend(check); still != "" {
				return errors.New(check + " is not mended by " + mend)
			}
			return nil
		})
	}
	if left := doctor(t, program, s.URL()); len(left.Findings) > 0 {
		t.Errorf("%+v", left)
	}
}
