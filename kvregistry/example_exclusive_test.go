package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// One of several processes does a job, and the next one does when the first has gone.
func ExampleRegistry_Exclusive() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	// the time to wait in line
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	leader, err := reg.Exclusive(ctx, "migrations")
	if err != nil {
		log.Fatal(err)
	}
	next := make(chan *kvregistry.Hold)
	go func() { // another process, in real life
		h, err := reg.Exclusive(ctx, "migrations")
		if err != nil {
			log.Fatal(err)
		}
		next <- h
	}()

	select {
	case <-next:
		fmt.Println("two at a time")
	case <-leader.Done():
		fmt.Println("lost:", leader.Err())
	case <-time.After(100 * time.Millisecond): // the job, whose writes carry leader.Token()
		fmt.Println("done")
	}
	fmt.Println(leader.Release(ctx))

	follower := <-next
	fmt.Println(follower.Token() > leader.Token(), follower.Err(),
		errors.Is(leader.Err(), kvregistry.ErrNotHeld))
	// Output:
	// done
	// <nil>
	// true <nil> true
}

// A process leads whenever it holds a name. After a lost hold it has to call Exclusive again. The
// work has a context that ends with the hold.
func ExampleHold_Context() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	ctx, cancel := context.WithCancel(context.Background()) // until the process is told to stop
	terms := 0
	lead := func(ctx context.Context, token uint64) { // the work, until ctx ends
		if terms++; terms == 2 {
			cancel()
			<-ctx.Done()
		}
		fmt.Println("term", terms, token > 0, ctx.Err())
	}
	for ctx.Err() == nil {
		h, err := reg.Exclusive(ctx, "leader")
		if err != nil {
			break
		}
		work, end := h.Context(ctx)
		lead(work, h.Token())
		end()
		_ = h.Close()
	}
	// Output:
	// term 1 true <nil>
	// term 2 true context canceled
}
