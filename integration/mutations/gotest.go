package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	testLimit  = 2 * time.Minute  // of the run of a mutation's test, by its own clock
	soundLimit = 15 * time.Minute // of the run of all of a package's tests
	buildLimit = 5 * time.Minute  // of the build before each
)

// result is the outcome of a run of go test.
type result struct {
	failed bool
	ran    int      // tests that began
	tests  []string // that failed, subtests before the tests that they belong to
	reason string   // why it failed if no test says so: a panic, a time-out
	output string   // what tests printed
}

func (r result) fails() bool { return r.failed }

// name returns the test that failed.
func (r result) name() string {
	if len(r.tests) == 0 {
		return cmp.Or(r.reason, "(no test's name)")
	}
	return r.tests[0]
}

// topLevel returns the tests that failed, without subtests.
func (r result) topLevel() []string {
	return slices.DeleteFunc(slices.Clone(r.tests), func(name string) bool {
		return strings.Contains(name, "/")
	})
}

// test runs go test in the copy. An error means that there is no verdict: the code does not
// compile, or there is no such test.
func (c *moduleCopy) test(ctx context.Context, limit time.Duration, pkg, run string) (result,
	error) {
	ctx, cancel := context.WithTimeout(ctx, limit+buildLimit)
	defer cancel()
	// Without vet, because what vet finds in a mutation is not what a test finds.
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-vet=off", "-count=1", "-timeout",
		limit.String(), "-run", run, pkg)
	cmd.Dir = c.root
	cmd.Env = append(os.Environ(), "TMPDIR="+c.temp, "GOTMPDIR="+c.temp, "GOWORK=off", "GOFLAGS=",
		"KVREGISTRY_LONG=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	endGroup := group(cmd)
	cmd.Cancel, cmd.WaitDelay = endGroup, 5*time.Second
	err := cmd.Run()
	_ = endGroup() // a test that panicked may have left processes of its own
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	r, readErr := read(stdout.Bytes())
	r.failed = err != nil
	switch {
	case readErr != nil:
		return r, readErr
	case r.ran == 0 && err == nil:
		return r, fmt.Errorf("no test of %s matches %q", pkg, run)
	case r.ran == 0:
		return r, fmt.Errorf("%s: no test ran: %w\n%s%s", pkg, err, r.output, &stderr)
	}
	return r, nil
}

// read makes a result of the output of go test -json. The error is about code that does not
// compile.
func read(events []byte) (r result, err error) {
	var build, output strings.Builder
	for line := range bytes.Lines(events) {
		var e struct{ Action, Test, Output, FailedBuild string }
		if json.Unmarshal(line, &e) != nil {
			output.Write(line)
			continue
		}
		switch e.Action {
		case "run":
			r.ran++
		case "fail":
			if e.Test != "" {
				r.tests = append(r.tests, e.Test)
			}
			if e.FailedBuild != "" {
				err = fmt.Errorf("it does not compile: %s", strings.TrimSpace(build.String()))
			}
		case "build-output":
			build.WriteString(e.Output)
		case "output":
			output.WriteString(e.Output)
			if r.reason == "" && strings.HasPrefix(e.Output, "panic: ") {
				r.reason = strings.TrimSpace(e.Output)
			}
		}
	}
	r.output = output.String()
	return r, err
}
