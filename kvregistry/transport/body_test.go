package transport

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestStreamIsReadByOne holds that an attempt from which a body was taken back, and which may still
// be at work, reads nothing of it and does not close it. A body of which something was read is not
// taken back. Seen to fail with a takeBack that leaves the body to the last attempt.
func TestStreamIsReadByOne(t *testing.T) {
	t.Parallel()
	under := &closeable{Reader: strings.NewReader("body")}
	s := &stream{body: under}
	first := s.lend()
	if !s.takeBack() {
		t.Fatal("a body that was not read is not taken back")
	}
	if n, err := first.Read(make([]byte, 4)); n != 0 ||
		!errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("an earlier attempt reads %d bytes, %v", n, err)
	}
	second := s.lend()
	if err := first.Close(); err != nil || under.closed != 0 {
		t.Errorf("an earlier attempt closed it %d times, %v", under.closed, err)
	}
	if got, err := io.ReadAll(second); string(got) != "body" || err != nil {
		t.Errorf("the second attempt reads %q, %v", got, err)
	}
	if s.takeBack() || s.failed() {
		t.Error("a body that was read is taken back, or has failed")
	}
	s.end()
	if under.closed != 0 {
		t.Error("it was closed while an attempt had it")
	}
	_, _ = second.Close(), second.Close()
	if under.closed != 1 {
		t.Errorf("it was closed %d times", under.closed)
	}
}

// TestStreamClosedUnderARead holds that a Read that ends because an attempt was given up, as HTTP/2
// does it, is no failure of the caller's body. Seen to fail without the look at which attempt has
// the body.
func TestStreamClosedUnderARead(t *testing.T) {
	t.Parallel()
	under := waiting{make(chan struct{}), make(chan struct{})}
	s := &stream{body: under}
	attempt, ended := s.lend(), make(chan error)
	go func() { // ends with Close
		_, err := attempt.Read(make([]byte, 1))
		ended <- err
	}()
	<-under.read
	_ = attempt.Close()
	if err := <-ended; err == nil || s.failed() {
		t.Errorf("%v, taken for a failure of the body: %v", err, s.failed())
	}
}

// waiting is a body whose Read waits for its Close.
type waiting struct{ read, closed chan struct{} }

func (w waiting) Read([]byte) (int, error) { close(w.read); <-w.closed; return 0, io.ErrClosedPipe }
func (w waiting) Close() error             { close(w.closed); return nil }

type closeable struct {
	io.Reader
	closed int
}

func (c *closeable) Close() error { c.closed++; return nil }
