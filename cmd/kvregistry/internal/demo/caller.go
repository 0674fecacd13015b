package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

const (
	callEvery = 10 * time.Millisecond
	callTime  = time.Second // bounds one call
)

// caller is the client: it looks the service up and calls the instance, again and again.
type caller struct {
	reg  *kvregistry.Registry
	seen *roster
	web  *http.Client

	mu      sync.Mutex // guards what follows
	lookups int
	tallies map[string]*tally // by instance
	wrongs  []string          // look-ups with a wrong answer
}

// tally counts the calls to one instance.
type tally struct {
	calls  int
	first  time.Time // when the first answered call began
	failed []failure
}

type failure struct {
	at  time.Time // when the call had failed
	why string
}

func newCaller(reg *kvregistry.Registry, seen *roster) *caller {
	return &caller{
		reg: reg, seen: seen, tallies: map[string]*tally{},
		web: &http.Client{Timeout: callTime, Transport: &http.Transport{}}, // without a proxy
	}
}

// run calls until ctx ends.
func (c *caller) run(ctx context.Context) {
	defer c.web.CloseIdleConnections()
	tick := time.NewTicker(callEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.once()
		}
	}
}

// once does one look-up and one call.
func (c *caller) once() {
	began := time.Now()
	s, err := c.reg.GetService(demoName)
	if c.looked(s.ID, err, began) {
		c.called(s.ID, c.call(s), began)
	}
}

// looked notes a look-up that began at the given time, and reports whether it gave an instance.
func (c *caller) looked(id string, err error, began time.Time) bool {
	gone, wasGone := c.seen.departed(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookups++
	switch {
	case errors.Is(err, kvregistry.ErrNotFound):
		c.wrongs = append(c.wrongs, "a look-up was empty")
	case err != nil:
		c.wrongs = append(c.wrongs, fmt.Sprintf("a look-up failed: %v", err))
	case wasGone && gone.at.Before(began):
		c.wrongs = append(c.wrongs, fmt.Sprintf("a look-up gave %s, which was gone already", id))
	}
	return err == nil
}

// call calls an instance, and checks that this instance answered.
func (c *caller) call(s kvregistry.Service) error {
	answer, err := c.web.Get(s.URL)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return errors.New(answer.Status)
	case string(body) != s.ID:
		return fmt.Errorf("answered by %q", body)
	}
	return nil
}

// called notes a call.
func (c *caller) called(id string, err error, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tallies[id]
	if t == nil {
		t = &tally{}
		c.tallies[id] = t
	}
	t.calls++
	switch {
	case err != nil:
		t.failed = append(t.failed, failure{time.Now(), reason(err)})
	case t.first.IsZero():
		t.first = began
	}
}

// reason returns in few words why a call failed.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET):
		return "connection cut"
	case os.IsTimeout(err):
		return "no answer within " + callTime.String()
	}
	return err.Error()
}

// tally returns a copy of the counts of an instance.
func (c *caller) tally(id string) tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tallies[id]; t != nil {
		return *t
	}
	return tally{}
}

// lookedUp returns the number of look-ups so far, and the wrong ones.
func (c *caller) lookedUp() (n int, wrongs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookups, append([]string(nil), c.wrongs...)
}
