package kvregistry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// serverLog keeps what a server logs.
func serverLog(s *natstest.Server) *natstest.Log {
	log := &natstest.Log{}
	s.Server().SetLoggerV2(&serverLogger{log}, false, false, false)
	return log
}

type serverLogger struct{ to *natstest.Log }

func (l *serverLogger) print(level, format string, v ...any) {
	fmt.Fprintf(l.to, level+" "+format+"\n", v...)
}

func (l *serverLogger) Noticef(format string, v ...any) { l.print("INF", format, v...) }
func (l *serverLogger) Warnf(format string, v ...any)   { l.print("WRN", format, v...) }
func (l *serverLogger) Fatalf(format string, v ...any)  { l.print("FTL", format, v...) }
func (l *serverLogger) Errorf(format string, v ...any)  { l.print("ERR", format, v...) }
func (l *serverLogger) Debugf(string, ...any)           {}
func (l *serverLogger) Tracef(string, ...any)           {}

// calm fails the test if a server logged a refusal.
func calm(t *testing.T, log *natstest.Log) {
	t.Helper()
	if list := log.With("Violation"); len(list) > 0 {
		t.Errorf("the server refused %d times: %s", len(list), strings.Join(list, ""))
	}
}

// A process of each role does all that the role includes, and the server refuses none of it. That
// holds without a bucket, without a reaper slot, and after a reconnect. Seen to fail if slots and
// buckets are tried without a check of the user's permissions.
func TestNoRoleTriesWhatItMayNot(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	s := natstest.Start(t, u.configure(t))
	log := serverLog(s)
	for name := range u {
		if name == string(operator.RoleAdmin) {
			continue
		}
		if _, err := New(t.Context(), s.Connect(u.options(name)...), discard()); !errors.Is(err,
			ErrPermission) || !errors.Is(err, tenant.ErrBucketNotFound) {
			t.Errorf("%s, without a bucket: %v", name, err)
		}
	}
	u.makeBucket(t, s)
	own := &natstest.Log{}
	fleet := map[string]*Registry{}
	for _, name := range []string{"observer", "registrar"} {
		fleet[name] = u.open(t, s, name, Logger(own.Logger().With("of", name)))
		natstest.Eventually(t, natstest.Soon, func() error {
			if own.Count("leaves reaping to others") < len(fleet) {
				return errors.New("it has not tried the slots yet")
			}
			return nil
		})
	}
	for _, name := range []string{"reaper", "service"} {
		fleet[name] = u.open(t, s, name)
	}
	use := func() {
		t.Helper()
		for name, r := range fleet {
			if err := r.ObserveContext(t.Context(), Everything); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if name == "observer" || name == "reaper" {
				continue
			}
			unregister, err := r.Register(Service{Name: "web", ID: name, Address: "h:1"})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			h, err := r.Exclusive(t.Context(), "web")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			err = errors.Join(r.SetStatus("web", Warning), h.Close(), unregister())
			mustRegister(t, r, Service{Name: "web", ID: name, Address: "h:1"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	use()
	calm(t, log)
	s.Outage(2 * lease.MinTTL)
	log = serverLog(s)
	natstest.Eventually(t, natstest.Soon, func() error {
		for name, r := range fleet {
			if h := r.Health(); !h.OK() {
				return fmt.Errorf("%s: %+v", name, h)
			}
		}
		return nil
	})
	use()
	for name, r := range fleet {
		if err := errors.Join(r.Drain(t.Context(), Settle(0)), r.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	calm(t, log)
}

// If no process reaps, each living one logs that once when a process has died, until a reaper
// comes. The cause may be the roles or the options of all processes. Only dead leases are counted.
// Seen to fail without guard, and if every lease counts as dead.
func TestNobodyReaps(t *testing.T) {
	t.Parallel()
	for how, opts := range map[string][]Option{"registrar": nil, "observer": nil,
		"service": {WithoutReaping()}} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			if how != "registrar" {
				natstest.Long(t)
			}
			u := newUsers(t)
			s := natstest.Start(t, u.configure(t))
			u.makeBucket(t, s)
			log := &natstest.Log{}
			r := u.open(t, s, how, append(opts, Logger(log.Logger()))...)
			dead := u.open(t, s, "registrar", WithoutReaping())
			mustRegister(t, dead, Service{Name: "web", ID: "dead", Address: "h:1"})
			mustRegister(t, u.open(t, s, "registrar", WithoutReaping()),
				Service{Name: "web", ID: "alive", Address: "h:1"})
			if err := r.ObserveContext(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			// its lease ends as if the process had died
			if err := dead.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, 2*natstest.Soon, func() error {
				if h := r.Health(); h.OK() || h.Unreaped != 1 ||
					!strings.Contains(fmt.Sprint(h.Err), "nobody reaps") {
					return fmt.Errorf("Health is %+v", h)
				}
				return nil
			})
			u.open(t, s, "reaper")
			natstest.Eventually(t, 2*natstest.Soon, func() error {
				if h := r.Health(); !h.OK() || log.Count("is removed again") == 0 {
					return fmt.Errorf("with a reaper: %+v", h)
				}
				return nil
			})
			if n := log.Count("nobody reaps"); n != 1 {
				t.Errorf("the line was logged %d times:\n%s", n, log)
			}
		})
	}
}

// A process that holds a slot logs that nothing is reaped if the server refuses its purges. An
// observing process does, too. Seen to fail with a holder that reports that it is ready.
func TestNobodyReapsThoughASlotIsHeld(t *testing.T) {
	t.Parallel()
	natstest.Long(t)
	u := newUsers(t)
	half := u["registrar"]
	for n := range tenant.Slots {
		half.Publish = append(half.Publish, "$KV.registry_default."+tenant.SlotKey(n))
	}
	u["half"] = half
	s := natstest.Start(t, u.configure(t))
	u.makeBucket(t, s)
	holder, observer := u.open(t, s, "half"), u.open(t, s, "observer")
	dead := u.open(t, s, "service", WithoutReaping())
	mustRegister(t, dead, Service{Name: "other", ID: "dead", Address: "h:1"})
	natstest.Eventually(t, natstest.Soon, func() error {
		if !holder.Health().Reaps {
			return errors.New("it has no slot")
		}
		return nil
	})
	if err := dead.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		for _, r := range []*Registry{holder, observer} {
			if h := r.Health(); h.OK() || h.Unreaped != 1 {
				return fmt.Errorf("Health is %+v", h)
			}
		}
		return nil
	})
}
