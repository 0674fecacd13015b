package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// Of several processes one does a job, and the next one when that has gone.
func ExampleRegistry_Exclusive() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // how long to wait in line
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
	fmt.Println(follower.Token() > leader.Token(), follower.Err(), errors.Is(leader.Err(), kvregistry.ErrNotHeld))
	// Output:
	// done
	// <nil>
	// true <nil> true
}
