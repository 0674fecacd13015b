package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// body hands a request's body to one attempt after the other. If the request has GetBody, each
// attempt gets a new body. Otherwise the body is a stream, and an attempt that did not read it
// leaves it to the next.
type body struct {
	req   *http.Request
	given bool    // to an attempt, which closes it
	held  *stream // if the body is a stream
}

func newBody(req *http.Request) body {
	b := body{req: req}
	if !b.none() && req.GetBody == nil {
		b.held = &stream{body: req.Body}
	}
	return b
}

func (b *body) none() bool { return b.req.Body == nil || b.req.Body == http.NoBody }

// next returns the body for an attempt.
func (b *body) next() (io.ReadCloser, error) {
	again := b.given
	b.given = true
	switch {
	case b.none():
		return b.req.Body, nil
	case b.held != nil:
		return b.held.lend(), nil
	case again:
		return b.req.GetBody()
	default:
		return b.req.Body, nil
	}
}

// again reports whether one more attempt can have the whole body, and takes it from the last one.
func (b *body) again() bool { return b.held == nil || b.held.takeBack() }

// broke reports whether a Read of it failed, which is no fault of an instance.
func (b *body) broke() bool { return b.held != nil && b.held.failed() }

// end says that no attempt follows.
func (b *body) end() {
	switch {
	case b.held != nil:
		b.held.end()
	case !b.given && b.req.Body != nil:
		_ = b.req.Body.Close()
	}
}

// stream is a body that can be read once. If nothing of it was read, its Close waits, because
// another attempt may get it.
type stream struct {
	body io.ReadCloser

	mu    sync.Mutex // guards what follows
	last  *loan      // the attempt that has it; nil if none has
	read  bool
	broke bool // a Read of it failed
	ended bool // no attempt follows
	over  bool // it is closed
}

// loan is a stream that one attempt has, until the attempt closes it or it is taken back.
type loan struct{ of *stream }

func (s *stream) lend() *loan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = &loan{s}
	return s.last
}

// takeBack takes the stream from the attempt that has it, if nothing of it was read.
func (s *stream) takeBack() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read {
		return false
	}
	s.last = nil
	return true
}

func (s *stream) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broke
}

// end has the stream closed when no attempt has it any more.
func (s *stream) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	_ = s.settle()
}

// settle closes the stream once, when no attempt has it or will get it.
func (s *stream) settle() error {
	s.mu.Lock()
	now := !s.over && s.last == nil && (s.ended || s.read)
	s.over = s.over || now
	s.mu.Unlock()
	if !now {
		return nil
	}
	return s.body.Close() // it may wait for a Read
}

func (l *loan) Read(p []byte) (int, error) {
	s := l.of
	s.mu.Lock()
	mine := s.last == l
	s.read = s.read || mine
	s.mu.Unlock()
	if !mine {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := s.body.Read(p)
	if err != nil && err != io.EOF {
		s.mu.Lock()
		s.broke = s.broke || s.last == l // not because it was closed meanwhile
		s.mu.Unlock()
	}
	return n, err
}

func (l *loan) Close() error {
	s := l.of
	s.mu.Lock()
	if s.last == l {
		s.last = nil
	}
	s.mu.Unlock()
	return s.settle()
}

// answer is a response's body, which tells the outcome once: when it was read to its end, failed,
// or was closed.
type answer struct {
	io.ReadCloser
	ctx  context.Context
	fail error // the outcome if nothing else goes wrong
	done func(error)
	told atomic.Bool
}

// duplex is the body of a connection that was switched to another protocol.
type duplex struct {
	*answer
	io.Writer
}

// follow tells done the outcome of a response when its body is over.
func follow(ctx context.Context, resp *http.Response, fail error, done func(error)) {
	if resp.Body == nil || resp.Body == http.NoBody {
		done(fail)
		return
	}
	a := &answer{ReadCloser: resp.Body, ctx: ctx, fail: fail, done: done}
	resp.Body = a
	if w, ok := a.ReadCloser.(io.Writer); ok {
		resp.Body = &duplex{a, w}
	}
}

func (a *answer) tell(outcome error) {
	if !a.told.Swap(true) {
		a.done(outcome)
	}
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		a.tell(a.fail)
	case err != nil:
		a.tell(outcome(a.ctx, err))
	}
	return n, err
}

func (a *answer) Close() error {
	a.tell(a.fail)
	return a.ReadCloser.Close()
}

// CloseWrite says that nothing more is written, if the connection can say that.
func (d *duplex) CloseWrite() error {
	if c, ok := d.Writer.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return http.ErrNotSupported
}

// outcome returns what a look-up is told of an error. If the caller gave up, the instance is not at
// fault, whatever the error says.
func outcome(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	return err
}
