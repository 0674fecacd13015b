package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
)

const (
	queueName = "reaper"        // the durable consumer that all reapers of a bucket share
	holders   = 8               // how many reapers the queue serves at once; the others stand by
	taken     = 2048            // how much of the queue one reaper takes at once: each time it reads all that is registered
	ackWait   = 2 * time.Second // after which the queue gives a marker to another reaper
	standby   = 5 * time.Second // how long one request to the queue waits, and between two of a reaper that stands by at the most
)

var errStandby = errors.New("the queue has reapers enough")

// queue is the consumer that hands out markers. It is made by whoever comes first.
func (r *Reaper) queue(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := r.bucket.Try(ctx, standby, r.bucket.API("CONSUMER.CREATE")+"."+queueName)
	defer cancel()
	js := r.bucket.JetStream()
	c, err := js.CreateConsumer(ctx, r.bucket.Stream(), jetstream.ConsumerConfig{
		Durable:        queueName,
		Description:    "leases that ran out, shared by all reapers",
		FilterSubjects: []string{r.bucket.Subject(tenant.AllLeases), r.bucket.Subject(tenant.SweepKey)},
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		HeadersOnly:    true,
		MaxAckPending:  -1, // a marker that is held back is not acknowledged, and must not keep others
		MaxWaiting:     holders,
	})
	if errors.Is(err, jetstream.ErrConsumerExists) { // made by another version, with other settings
		c, err = js.Consumer(ctx, r.bucket.Stream(), queueName)
	}
	return c, r.bucket.Explain(ctx, err)
}

// serve takes messages from the queue until the reaper is closed. After each time that the connection was lost
// it first leaves the living the time to take new leases.
func (r *Reaper) serve() {
	r.lives.Store(r.bucket.Conn().Stats().Reconnects)
	r.watch(r.newcomer())
	up, stop := r.bucket.Reconnected()
	defer stop()
	var queue jetstream.Consumer
	for wait := time.Duration(0); r.bucket.AwaitConnected(r.ctx) == nil; {
		if lives := r.bucket.Conn().Stats().Reconnects; r.lives.Swap(lives) != lives {
			r.watch(r.hold())
			continue
		}
		var err error
		if queue == nil {
			queue, err = r.queue(r.ctx)
		}
		if err == nil {
			err = r.serveConnected(queue)
		}
		switch {
		case errors.Is(err, errReconnected):
			wait = 0
		case errors.Is(err, errStandby): // an answer like any other
			r.pulse.beat(true)
			wait = jitter(min(standby, beatTime(r.cfg.TTL)*15/8))
		case errors.Is(err, tenant.ErrPermission):
			r.dispense(err)
			queue, wait = nil, tenant.DispenseTime
		default:
			r.cfg.Logger.Debug("kvregistry: reaper", "cause", err)
			if !r.deleted(queue, err) {
				r.pulse.fault() // what the queue suffers from, heartbeats may suffer from
			}
			queue, wait = nil, jitter(longer(wait))
		}
		for len(up) > 0 { // what is dealt with
			<-up
		}
		sleep(r.ctx, wait, up)
	}
}

// watch lets d go by and looks at the server meanwhile: an outage that ends a moment before d does is one that is just over. In a cluster the bucket
// may have no leader for a while behind a connection that holds.
func (r *Reaper) watch(d time.Duration) {
	defer r.pulse.run(r.ctx, r.bucket, r.cfg.TTL, nil, nil)()
	sleep(r.ctx, d, nil)
}

// dispense says once that this process leaves reaping to others.
func (r *Reaper) dispense(why error) {
	r.once.Do(func() {
		r.cfg.Logger.Info("kvregistry: does not reap, others have to", "cause", why)
	})
}

// deleted reports whether the queue failed because it is no more, which says nothing against the server.
func (r *Reaper) deleted(queue jetstream.Consumer, why error) bool {
	if queue != nil && errors.Is(why, nats.ErrNoResponders) { // it may have no leader only
		ctx, cancel := context.WithTimeout(r.ctx, ackWait)
		defer cancel()
		_, why = queue.Info(ctx)
	}
	return errors.Is(why, jetstream.ErrConsumerDeleted) || errors.Is(why, jetstream.ErrConsumerNotFound)
}

var errReconnected = errors.New("the connection was lost")

// reconnected reports whether the connection was lost and made again since this reaper last waited for that.
func (r *Reaper) reconnected() bool { return r.bucket.Conn().Stats().Reconnects != r.lives.Load() }

// serveConnected serves for as long as the connection and the queue hold.
func (r *Reaper) serveConnected(queue jetstream.Consumer) error {
	up, stop := r.bucket.Reconnected()
	defer stop()
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	defer r.pulse.run(ctx, r.bucket, r.cfg.TTL, queue, cancel)()
	for {
		if err := r.serveBatch(ctx, up); err != nil {
			return err
		}
	}
}

// serveBatch makes one request to the queue and deals with what comes. A reaper in doubt leaves its place to others. It does not use the requests of
// nats.go, which take an entry whose headers say so for a word of the server's, and leave it in the queue for ever.
func (r *Reaper) serveBatch(ctx context.Context, up <-chan nats.Status) error {
	if !r.bucket.Conn().IsConnected() || r.reconnected() { // requests would pile up until it is
		return errReconnected
	}
	if r.doubtful() {
		sleep(ctx, r.hold()/12, up)
		return context.Cause(ctx)
	}
	subject := r.bucket.API("CONSUMER.MSG.NEXT") + "." + queueName
	request, cancel := r.bucket.Try(ctx, standby+time.Second, subject)
	defer cancel()
	inbox, msgs := r.bucket.Conn().NewInbox(), make(chan *nats.Msg, taken+1)
	sub, err := r.bucket.Conn().ChanSubscribe(inbox, msgs)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := r.bucket.Conn().PublishRequest(subject, inbox, fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, taken, standby)); err != nil {
		return err
	}
	for left := taken; left > 0; {
		select {
		case <-up:
			return errReconnected
		case <-request.Done():
			return notServed(ctx, r.bucket.Explain(request, context.Cause(request)))
		case msg := <-msgs:
			batch, end := gather(msg, msgs, inbox)
			left -= len(batch)
			if err := r.deal(batch); err != nil {
				return err
			}
			if end != nil {
				return notServed(ctx, wordOf(end))
			}
		}
		if r.reconnected() {
			return errReconnected
		}
	}
	return nil
}

// gather takes all that is there behind a message, so that leases that ran out together are reaped together, up to the word of the server's that ends the
// request. That has the inbox's subject, and an entry that of its key, whatever its headers say.
func gather(msg *nats.Msg, more <-chan *nats.Msg, inbox string) (batch []*nats.Msg, end *nats.Msg) {
	for {
		switch {
		case msg.Subject != inbox:
			batch = append(batch, msg)
		case msg.Header.Get("Status") != "100": // a heartbeat of the request's
			return batch, msg
		}
		select {
		case msg = <-more:
		default:
			return batch, nil
		}
	}
}

// wordOf is the error that the server's word stands for; nil where the request is only over.
func wordOf(msg *nats.Msg) error {
	status, description := msg.Header.Get("Status"), msg.Header.Get("Description")
	switch {
	case status == "404", status == "408", description == "Batch Completed":
		return nil
	case status == "503":
		return nats.ErrNoResponders
	case description == "Consumer Deleted":
		return jetstream.ErrConsumerDeleted
	case strings.Contains(description, "Exceeded MaxWaiting"):
		return errStandby
	}
	return fmt.Errorf("lease: the queue says %q (%s)", description, status)
}

// notServed says why a request to the queue ended, nil where it was only over.
func notServed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	}
	return err
}

// deal does what messages ask for. What is not a marker is a heartbeat or a lease's end by its owner, and none of a reaper's business. The error is that
// of settle.
func (r *Reaper) deal(batch []*nats.Msg) error {
	var ended, timer []*nats.Msg
	for _, msg := range batch {
		switch {
		case !tenant.IsMarker(msg.Header):
			_ = msg.Ack()
		case r.bucket.Key(msg.Subject) == tenant.SweepKey:
			timer = []*nats.Msg{msg}
		default:
			ended = append(ended, msg)
		}
	}
	var reaped, swept error
	if ended != nil {
		began := time.Now()
		reaped = r.settle(ended, r.reap)
		sleep(r.ctx, min(time.Since(began), ackWait/4), nil) // so that it reads half of the time at the most, and what ends meanwhile needs one reading
	}
	if timer != nil {
		swept = r.settle(timer, r.sweep)
	}
	return cmp.Or(reaped, swept)
}

// settle does the work that messages ask for, and acknowledges them when it is done. In doubt it holds
// them back, to look again soon; after a failure they come again. The error says that the server does not let this reaper work.
func (r *Reaper) settle(msgs []*nats.Msg, work func([]*nats.Msg) error) error {
	delay := time.Duration(0)
	err := errDoubt
	if !r.doubtful() {
		err = work(msgs)
	}
	switch {
	case errors.Is(err, errDoubt):
		r.held.Add(uint64(len(msgs)))
		delay = r.hold() / 3 // the doubt may be over before a whole one
	case err != nil:
		if !r.failing && r.ctx.Err() == nil {
			r.cfg.Logger.Warn("kvregistry: could not reap, trying again", "cause", err)
		}
		r.failing, delay = true, time.Second
	default:
		r.failing = false
	}
	for _, msg := range msgs {
		if delay > 0 {
			_ = msg.NakWithDelay(delay)
		} else {
			_ = msg.Ack()
		}
	}
	if errors.Is(err, tenant.ErrPermission) {
		return err
	}
	return nil
}
