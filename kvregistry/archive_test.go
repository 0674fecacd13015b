package kvregistry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry/internal/snapfile"
	"github.com/kvregistry/go/tenant"
)

type (
	content       = snapfile.Content[Service]
	savedInstance = snapfile.Instance[Service]
)

// writeFile writes a snapshot file of any format.
func writeFile(path string, f content) error {
	if f.Format == snapfile.Format {
		return snapfile.Write(path, f)
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// observed runs a registry with a snapshot file that registers and observes two services, and
// closes it.
func observed(t *testing.T, s *natstest.Server, path string) {
	t.Helper()
	owner, err := New(t.Context(), s.Connect(), TTL(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close() })
	for _, one := range []Service{
		{Name: "web", ID: "a", Address: "127.0.0.1:1", Metadata: map[string]string{"k": "v"}},
		{Name: "web", ID: "b", Address: "127.0.0.1:2", Status: Critical},
		{Name: "api", ID: "c", URL: "http://user:secret@127.0.0.1:3/"},
	} {
		if _, err := owner.Register(one); err != nil {
			t.Fatal(err)
		}
	}
	reg, err := New(t.Context(), s.Connect(), SnapshotFile(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "api", "none"} {
		if err := reg.ObserveContext(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
}

// away returns a registry whose server is not there.
func away(t testing.TB, opts ...Option) *Registry {
	t.Helper()
	nc, err := nats.Connect("nats://127.0.0.1:1", nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(10*time.Millisecond), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	reg, err := New(t.Context(), nc, append([]Option{Timeout(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

// If NATS is away from the start, look-ups answer from the file at once, and say so. Seen to fail
// with a first look-up that does not look at it.
func TestSnapshotFileAnswersWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	observed(t, natstest.Start(t), path)
	const timeout = 3 * natstest.Soon
	reg, began := away(t, SnapshotFile(path), Timeout(timeout)), time.Now()
	list, err := reg.GetServices(t.Context(), "web")
	if err != nil || len(list) != 1 || list[0].ID != "a" || list[0].Metadata["k"] != "v" ||
		list[0].Revision == 0 {
		t.Errorf("got %+v, %v, want the passing one", list, err)
	}
	if one, err := reg.GetService("api"); err != nil || one.ID != "c" {
		t.Errorf("got %+v, %v", one, err)
	}
	look, err := reg.Lookup("web")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a prepared look-up, too
		if one, done, err := look.Pick(t.Context()); err != nil || one.ID != "a" {
			t.Errorf("picked %+v, %v", one, err)
		} else {
			done(nil)
		}
	}
	if took := time.Since(began); took > natstest.Soon {
		t.Errorf("it waited for %s", took)
	}
	snap, err := reg.Snapshot("web")
	if err != nil || !snap.Stale() || snap.Len() != 2 || snap.Age() <= 0 ||
		snap.Age() > time.Minute {
		t.Errorf("snapshot %+v, stale %v, age %s, %v", snap, snap.Stale(), snap.Age(), err)
	}
	if h := reg.Health(); h.OK() || !cmp.Equal(h.Stale, []string{"api", "web"}) {
		t.Errorf("health says that %q are stale: %+v", h.Stale, h)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s, %v: it may hold passwords", info.Mode(), err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	again := away(t, SnapshotFile(path)) // a run that read nothing leaves the file alone
	if _, err := again.GetService("web"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"none", "unknown"} { // the file does not name it
		if _, err := again.GetService(name); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
	stale := away(t, SnapshotFile(path), MaxStale(2*time.Second))
	natstest.Eventually(t, natstest.Soon, func() error { // MaxStale bounds the age of the file, too
		if _, err := stale.GetService("web"); !errors.Is(err, ErrStale) {
			return errors.Join(errors.New("want ErrStale"), err)
		}
		return nil
	})
}

// An answer of NATS replaces what the file said, and comes as events. What NATS does not have is
// not taken from the file. If a run read only some services, its file keeps the others.
func TestSnapshotFileGivesWay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	s := natstest.Start(t)
	observed(t, s, path)       // its server has the registrations, or ends them with their lease
	other := natstest.Start(t) // with nothing registered
	other.Down()
	nc, err := nats.Connect(other.URL(), nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(10*time.Millisecond), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	reg, err := New(t.Context(), nc, SnapshotFile(path), Timeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.GetService("web"); err != nil {
		t.Fatal(err)
	}
	other.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := reg.GetService("web"); !errors.Is(err, ErrNotFound) {
			return errors.Join(errors.New("want ErrNotFound"), err)
		}
		return nil
	})
	if h := reg.Health(); len(h.Stale) != 0 {
		t.Errorf("stale: %q", h.Stale)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	again := away(t, SnapshotFile(path))
	if _, err := again.GetService("web"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("web: %v, want ErrUnavailable: the last run found none", err)
	}
	if _, err := again.GetService("api"); err != nil {
		t.Errorf("api, which the last run did not read: %v", err)
	}
}

// If a service has signers, a look-up takes from the file only what one of its present signers has
// signed. What a run with signers was given goes on to the next file. Seen to fail with a file that
// does not say who signed.
func TestSnapshotFileAndSigners(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	path := filepath.Join(t.TempDir(), "snapshots.json")
	signer := func() (with Option, public string) {
		pair := keyPair(t)
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return SignWith(pair), public
	}
	withA, a := signer()
	withB, b := signer()
	mustRegister(t, newRegistry(t, s, withA), Service{Name: "web", ID: "a", Address: "h:1"},
		Service{Name: "api", ID: "a", Address: "h:1"})
	mustRegister(t, newRegistry(t, s, withB), Service{Name: "web", ID: "b", Address: "h:1"})
	mustRegister(t, newRegistry(t, s), Service{Name: "web", ID: "none", Address: "h:1"},
		Service{Name: "free", ID: "none", Address: "h:1"})
	shows := func(opts []Option, service string, want ...string) {
		t.Helper()
		var got []string
		snap, err := away(t, append(opts, SnapshotFile(path))...).Snapshot(service)
		if err == nil {
			for one := range snap.All() {
				got = append(got, one.ID)
			}
		} else if !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: shows %v, %v, want %v", service, got, err, want)
		}
	}
	save := func(opts ...Option) {
		t.Helper()
		reg := newRegistry(t, s, append(opts, SnapshotFile(path))...)
		for _, name := range []string{"web", "api", "free"} {
			if err := reg.ObserveContext(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		if err := reg.Close(); err != nil {
			t.Fatal(err)
		}
	}
	trusts := func(public ...string) []Option {
		return []Option{TrustSigners("web", public...), TrustSigners("api", public...)}
	}
	save(trusts(a, b)...)
	shows(trusts(a, b), "web", "a", "b")
	shows(trusts(b), "web", "b")
	shows(trusts(b), "api")
	shows(trusts(b), "free", "none")
	shows([]Option{TrustSigners(Everything, b)}, "free")
	shows(nil, "web", "a", "b")

	// a run that reads nothing
	if err := away(t, append(trusts(a, b), SnapshotFile(path))...).Close(); err != nil {
		t.Fatal(err)
	}
	shows(trusts(a), "web", "a")
	half := newRegistry(t, s, append(trusts(a, b), SnapshotFile(path))...) // one that reads some
	if err := half.ObserveContext(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	shows(trusts(a), "web", "a")
	shows(trusts(a), "api", "a")

	save() // without signers, signatures are not checked
	shows(nil, "web", "a", "b", "none")
	shows(trusts(a), "web")
}

// A cache forgets who signed an instance when the instance goes. Seen to fail if the signer is
// kept.
func TestCacheForgetsWhoSigned(t *testing.T) {
	t.Parallel()
	c, see := smallCache(t)
	see("a", 1, tenant.Put)
	s := &sighting{name: "a", id: "1", signer: "U"}
	c.sign(s)
	if _, signed := c.signed(c.find("a")); signed["1"] != "U" {
		t.Errorf("signed by %v", signed)
	}
	see("a", 1, tenant.Put) // no signer
	if len(c.signers) > 0 {
		t.Errorf("kept are %v", c.signers)
	}
	c.sign(s)
	see("a", 1, tenant.Purge)
	if len(c.signers) > 0 {
		t.Errorf("kept are %v", c.signers)
	}
}

// A file is not used if it is damaged, too old, from the future or of another format. Another
// tenant's file is refused and left alone.
func TestSnapshotFileThatIsNotUsed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	write := func(change func(*content)) {
		f := content{Format: snapfile.Format, Tenant: DefaultTenant,
			Services: map[string]saved{"web": {At: time.Now(),
				Instances: []savedInstance{{Revision: 7, Instance: Service{Name: "web", ID: "a",
					Address: "a:1", Status: Passing}}}}}}
		change(&f)
		if err := writeFile(path, f); err != nil {
			t.Fatal(err)
		}
	}
	old := func(age time.Duration) func(*content) {
		return func(f *content) {
			f.Services["web"] = saved{At: time.Now().Add(-age),
				Instances: f.Services["web"].Instances}
		}
	}
	instance := func(change func(*Service)) func(*content) {
		return func(f *content) { change(&f.Services["web"].Instances[0].Instance) }
	}
	for name, test := range map[string]struct {
		change func(*content)
		used   bool
	}{
		"as it is":            {func(*content) {}, true},
		"an hour old":         {old(time.Hour), true},
		"too old":             {old(3 * time.Hour), false},
		"of the future":       {old(-time.Hour), false},
		"another format":      {func(f *content) { f.Format = 2 }, false},
		"an invalid instance": {instance(func(s *Service) { s.Address = "" }), false},
		"another service's":   {instance(func(s *Service) { s.Name = "api" }), false},
	} {
		write(test.change)
		_, err := away(t, SnapshotFile(path), SnapshotFileAge(2*time.Hour)).GetService("web")
		if used := err == nil; used != test.used || err != nil && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "{", `{"format":1}`, `[]`, "\x00"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := away(t, SnapshotFile(path)).GetService("web"); !errors.Is(err,
			ErrUnavailable) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSnapshotFileOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "acme.json")
	if err := snapfile.Write(path, content{Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	nc := natstest.Start(t).Connect()
	for _, test := range []struct {
		opts []Option
		says string
	}{
		{[]Option{SnapshotFile(path), Tenant("globex")}, `tenant "acme"'s`},
		{[]Option{SnapshotFile("")}, "no folder"},
		{[]Option{SnapshotFile(filepath.Join(dir, "none", "x"))}, "no folder"},
		{[]Option{SnapshotFile(dir)}, "no file"},
		{[]Option{SnapshotFileAge(time.Second)}, "1m or more"},
	} {
		if _, err := New(t.Context(), nc, test.opts...); !errors.Is(err, ErrInvalidOption) ||
			!strings.Contains(err.Error(), test.says) {
			t.Errorf("%v, want one that says %q", err, test.says)
		}
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("another tenant's file was written")
	}
}

// A file is replaced as a whole: until then a reader finds the old one. This holds, too, if two
// processes with the same id write it, as in two containers. Seen to fail, with an empty file, if
// the name of the temporary file is made of the process's id.
func TestSnapshotFileIsWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "snapshots.json")
	big := content{Format: snapfile.Format, Tenant: DefaultTenant, Services: map[string]saved{}}
	for _, name := range []string{"a", "b", "c"} {
		big.Services[name] = saved{At: time.Now(),
			Instances: []savedInstance{{Revision: 1, Instance: Service{Name: name, ID: name,
				Address: strings.Repeat("x", 10_000)}}}}
	}
	if err := writeFile(path, big); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				if err := writeFile(path, big); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 100 {
		if data, err := os.ReadFile(path); err != nil || !json.Valid(data) {
			t.Errorf("half a file: %d bytes, %v", len(data), err)
			break
		}
	}
	cancel()
	writers.Wait()
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A registry writes its file while it runs, and refreshes its time if nothing changed. A process
// that is killed closes nothing. If the file can't be written, the registry logs that once and goes
// on. Seen to fail without the goroutine, with a file that is written after changes only, and with
// a line for each attempt.
func TestSnapshotFileIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "snapshots.json")
	var log strings.Builder // read after Close
	reg := newRegistry(t, natstest.Start(t), SnapshotFile(path), SnapshotFileAge(time.Minute),
		Logger(slog.New(slog.NewTextHandler(&log, nil))))
	mustRegister(t, reg, Service{Name: "web", ID: "a", Address: "a:1"})
	if err := reg.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	written := func(since time.Time) (at time.Time) {
		natstest.Eventually(t, natstest.Soon+saveTime, func() error {
			saved, err := snapfile.Read[Service](path, DefaultTenant)
			if at = saved.Services["web"].At; err == nil && !at.After(since) {
				err = fmt.Errorf("it is of %s, want one after %s", at, since)
			}
			return err
		})
		return at
	}
	written(written(time.Time{}))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		t.Error(err)
	}
	reg.archive.wrote = time.Time{}
	reg.archive.save(reg.cache) // the goroutine that wrote it has ended
	if n := strings.Count(log.String(), "the snapshot file can't be written"); n != 1 {
		t.Errorf("the line was logged %d times: %s", n, log.String())
	}
}

// If the server is there and JetStream does not answer, a registry with a file starts and answers
// from it. A cluster without a majority is such a server. A registry without a file returns the
// error. Seen to fail if New does not look at the file.
func TestSnapshotFileWhileJetStreamIsAway(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	observed(t, natstest.Start(t), path)
	alone := natstest.Start(t, func(o *server.Options) {
		o.ServerName = "one-of-three"
		o.Cluster = server.ClusterOpts{Name: "lost", Host: "127.0.0.1", Port: natstest.FreePort(t)}
		o.Routes = server.RoutesFromStr(fmt.Sprintf("nats://127.0.0.1:%d,nats://127.0.0.1:%d",
			natstest.FreePort(t), natstest.FreePort(t)))
	})
	start := func(opts ...Option) (*Registry, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return New(ctx, alone.Connect(), append(opts, discard())...)
	}
	if reg, err := start(); err == nil {
		_ = reg.Close()
		t.Fatal("New without a file returned no error, although nothing answers")
	}
	reg, err := start(SnapshotFile(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if one, err := reg.GetService("api"); err != nil || one.ID != "c" {
		t.Errorf("%+v, %v", one, err)
	}
	if h := reg.Health(); h.OK() || h.Err == nil || !cmp.Equal(h.Stale, []string{"api"}) {
		t.Errorf("%+v", h)
	}
}

// If the server does not let the user read, look-ups do not answer from the file. Seen to fail if
// away does not check whether a fault is permanent.
func TestSnapshotFileIsNotForWhoMayNotRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	observed(t, natstest.Start(t), path)
	other := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p",
			Permissions: &server.Permissions{Publish: &server.SubjectPermission{
				Deny: []string{"$JS.API.>"}}}}}
	})
	nc := other.Connect(nats.UserInfo("u", "p"))
	other.Down()
	natstest.Eventually(t, natstest.Soon, func() error {
		if nc.IsConnected() {
			return errors.New("still connected")
		}
		return nil
	})
	reg, err := New(t.Context(), nc, SnapshotFile(path), discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.GetService("web"); err != nil {
		t.Error("while it is away:", err)
	}
	other.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := reg.GetService("web"); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("%v, want ErrPermission", err)
		}
		return nil
	})
	for range 3 { // also after the fault is known
		if _, err := reg.GetService("web"); !errors.Is(err, ErrPermission) {
			t.Errorf("%v, want ErrPermission", err)
		}
	}
}

// A service's saved snapshot equals the snapshot that was saved.
func TestSavedSnapshotIsTheSame(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	s := natstest.Start(t)
	observed(t, s, path)
	reg, err := New(t.Context(), s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	want, err := reg.Snapshot("web")
	if err != nil {
		t.Fatal(err)
	}
	got, err := away(t, SnapshotFile(path)).Snapshot("web")
	if err != nil {
		t.Fatal(err)
	}
	all := func(s *Snapshot) (list []Service) {
		for one := range s.All() {
			list = append(list, one)
		}
		return list
	}
	if diff := cmp.Diff(all(want), all(got), cmpopts.EquateEmpty()); diff != "" ||
		got.Revision() != want.Revision() || want.Stale() {
		t.Errorf("revision %d, want %d; %s", got.Revision(), want.Revision(), diff)
	}
}

// BenchmarkSnapshotFile measures a look-up that the file answers, and the writing of ten thousand
// instances.
func BenchmarkSnapshotFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "snapshots.json")
	f := content{Format: snapfile.Format, Tenant: DefaultTenant, Services: map[string]saved{}}
	for i := range 100 {
		name, list := fmt.Sprintf("service-%d", i), []savedInstance(nil)
		for j := range 100 {
			list = append(list, savedInstance{Revision: uint64(j), Instance: Service{
				Name: name, ID: rand.Text()[:16], Address: "10.20.30.40:8080",
				Host: "host.example.com", Metadata: map[string]string{"team": "payments"},
				Status: Passing,
			}})
		}
		f.Services[name] = saved{At: time.Now(), Instances: list}
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := writeFile(path, f); err != nil {
				b.Fatal(err)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/10_000, "B/instance")
	})
	b.Run("look-up", func(b *testing.B) {
		reg := away(b, SnapshotFile(path))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := reg.GetService("service-7"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
