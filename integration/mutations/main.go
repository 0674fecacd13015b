// Program mutations breaks the library on purpose, in one small way after the other, and shows that
// a test catches each of them. For every invariant of docs/design.md there is at least one such
// break in mutations.txt.
//
//	go run ./integration/mutations                 # all of them: an hour or more
//	go run ./integration/mutations -run heartbeat  # those whose name matches
//	go run ./integration/mutations -list
//
// It works on a copy of the module. The exit code is 1 if a mutation was missed, does not apply or
// does not compile, and if a test fails without any mutation.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	names := flag.String("run", "", "only the mutations whose name matches this `regexp`")
	list := flag.Bool("list", false, "list the mutations and do nothing")
	verbose := flag.Bool("v", false, "print what the tests that catch a mutation say")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "mutations: unknown argument %q; -run %s runs those of that name\n",
			flag.Arg(0), flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, *names, *list, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutations:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

// run reports whether all the requested mutations were caught.
func run(ctx context.Context, names string, list, verbose bool) (bool, error) {
	ms, err := chosen(names)
	if err != nil {
		return false, err
	}
	if list {
		for _, m := range ms {
			fmt.Printf("%2d  %-36s %s %s\n", m.invariant, m.name, m.pkg, m.run)
		}
		return true, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return false, err
	}
	for _, m := range ms { // before a minute is spent
		if _, err := m.apply(root); err != nil {
			return false, err
		}
	}
	c, err := newCopy(root)
	if err != nil {
		return false, err
	}
	defer c.remove()
	if err := c.sound(ctx, ms); err != nil {
		return false, err
	}
	return c.tryAll(ctx, ms, verbose)
}

func chosen(names string) ([]mutation, error) {
	re, err := regexp.Compile(names)
	if err != nil {
		return nil, err
	}
	ms, err := parse(listed)
	if err != nil {
		return nil, err
	}
	ms = slices.DeleteFunc(ms, func(m mutation) bool { return !re.MatchString(m.name) })
	if len(ms) == 0 {
		return nil, fmt.Errorf("no mutation's name matches %q", names)
	}
	return ms, nil
}

// sound runs the tests on the source as it is, because a test that fails without a mutation catches
// none.
func (c *moduleCopy) sound(ctx context.Context, ms []mutation) error {
	var pkgs []string
	tests := map[string][]string{}
	for _, m := range ms {
		if !slices.Contains(pkgs, m.pkg) {
			pkgs = append(pkgs, m.pkg)
		}
		if !slices.Contains(tests[m.pkg], m.run) {
			tests[m.pkg] = append(tests[m.pkg], m.run)
		}
	}
	for _, pkg := range pkgs {
		began := time.Now()
		r, err := c.test(ctx, soundLimit, pkg, strings.Join(tests[pkg], "|"))
		// Together they may be too much for a machine; a mutation's test runs alone.
		if err == nil && r.fails() && len(r.tests) > 0 {
			fmt.Printf("fails      %6.1fs  %s, unchanged: %s; once more\n",
				time.Since(began).Seconds(), pkg, strings.Join(r.topLevel(), " "))
			r, err = c.test(ctx, soundLimit, pkg,
				"^("+strings.Join(r.topLevel(), "|")+")$")
		}
		if err != nil {
			return err
		}
		if r.fails() {
			return fmt.Errorf("%s fails without a mutation: %s\n%s", pkg, r.name(), r.output)
		}
		fmt.Printf("passes     %6.1fs  %s, unchanged\n", time.Since(began).Seconds(), pkg)
	}
	return nil
}

// tryAll makes each mutation, one at a time, and reports whether all were caught.
func (c *moduleCopy) tryAll(ctx context.Context, ms []mutation, verbose bool) (bool, error) {
	caught := 0
	for _, m := range ms {
		began := time.Now()
		r, err := c.try(ctx, m)
		if ctx.Err() != nil {
			return false, fmt.Errorf("interrupted at %s", m.name)
		}
		verdict, by := "MISSED", m.pkg+" "+m.run
		switch {
		case err != nil:
			verdict, by = "ERROR", err.Error()
		case r.fails():
			caught++
			verdict, by = "caught", r.name()
		}
		fmt.Printf("%-10s %6.1fs  %2d  %-36s %s\n", verdict, time.Since(began).Seconds(),
			m.invariant, m.name, by)
		if verbose && err == nil {
			fmt.Print(r.output)
		}
	}
	fmt.Printf("%d of %d caught\n", caught, len(ms))
	return caught == len(ms), nil
}

// try runs one mutation's test on the mutated copy, and undoes the mutation.
func (c *moduleCopy) try(ctx context.Context, m mutation) (result, error) {
	undo, err := c.mutate(m)
	if err != nil {
		return result{}, err
	}
	r, err := c.test(ctx, testLimit, m.pkg, m.run)
	if undoErr := undo(); err == nil {
		err = undoErr
	}
	return r, err
}
