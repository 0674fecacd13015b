package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long the demo waits for what should take far less, so that it can say how late it
// was.
const patience = 5 * time.Second

// process is a service of the demo, in a process of its own.
type process struct {
	id    string
	cmd   *exec.Cmd
	stdin io.Closer     // its end stops the process; the system ends it if the demo dies
	said  chan line     // closed when the process has ended
	done  chan struct{} // likewise, and err is set
	err   error         // how it ended
}

// line is one line that a process wrote.
type line struct {
	word string
	at   time.Time // by the clock of this machine, which all of the demo's processes share
	text string
}

// startService starts a service process, which registers as soon as it can.
func startService(cfg serviceConfig, stderr io.Writer) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("can't find this program's own file: %w", err)
	}
	cmd := exec.Command(self, serviceCommand, "--nats", cfg.url, "--tenant",
		cfg.tenant, "--id", cfg.id,
		"--ttl", cfg.ttl.String(), "--verbose="+strconv.FormatBool(cfg.verbose))
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("can't start a service process: %w", err)
	}
	p := &process{id: cfg.id, cmd: cmd, stdin: stdin, said: make(chan line, 16),
		done: make(chan struct{})}
	go p.follow(stdout) // ends with the process
	return p, nil
}

// follow reads the process's lines until it ends.
func (p *process) follow(stdout io.Reader) {
	defer close(p.done)
	defer close(p.said)
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		word, rest, _ := strings.Cut(scanner.Text(), " ")
		stamp, text, _ := strings.Cut(rest, " ")
		ns, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			continue
		}
		select {
		case p.said <- line{word, time.Unix(0, ns), text}:
		default: // nothing waits for it
		}
	}
	p.err = p.cmd.Wait()
}

// await waits until the process writes a word.
func (p *process) await(ctx context.Context, word string) (line, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case l, more := <-p.said:
			switch {
			case !more:
				return line{}, fmt.Errorf("%s ended before it was %s; --verbose may say why", p.id,
					word)
			case l.word == word:
				return l, nil
			}
		case <-late.C:
			return line{}, fmt.Errorf("%s is not %s after %s; --verbose may say why",
				p.id, word, patience)
		case <-ctx.Done():
			return line{}, errInterrupted
		}
	}
}

// awaitEnd waits until the process has ended.
func (p *process) awaitEnd(ctx context.Context) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.done:
		return p.err
	case <-late.C:
		return fmt.Errorf("still there after %s", patience)
	case <-ctx.Done():
		return errInterrupted
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill sends SIGKILL: the process cannot unregister.
func (p *process) kill() error { return p.cmd.Process.Kill() }

// terminate sends SIGTERM: the process unregisters first.
func (p *process) terminate() error { return p.cmd.Process.Signal(syscall.SIGTERM) }

// end ends processes: gracefully if they end in time.
func end(list []*process) {
	for _, p := range list {
		_ = p.stdin.Close()
	}
	late := time.After(goodbye + drain + goodbye)
	for _, p := range list {
		select {
		case <-p.done:
		case <-late:
			late = time.After(0) // for the others too
			_ = p.kill()
			<-p.done
		}
	}
}
