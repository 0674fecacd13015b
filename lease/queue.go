package lease

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
)

const (
	queueName = "reaper"        // the durable consumer that all reapers of a bucket share
	holders   = 8               // how many reapers the queue serves at once; the others stand by
	taken     = 512             // how much of the queue one reaper takes at once
	ackWait   = 2 * time.Second // after which the queue gives a marker to another reaper
	standby   = 5 * time.Second // how long one request to the queue waits, and between two of a reaper that stands by at the most
)

var errStandby = errors.New("the queue has reapers enough")

// queue is the consumer that hands out markers. It is made by whoever comes first.
func (r *Reaper) queue(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := r.bucket.Try(ctx, standby, "$JS.API.CONSUMER.CREATE."+r.bucket.Stream()+"."+queueName)
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
	sleep(r.ctx, r.newcomer(), nil)
	up, stop := r.bucket.Reconnected()
	defer stop()
	var queue jetstream.Consumer
	for wait := time.Duration(0); r.bucket.AwaitConnected(r.ctx) == nil; {
		if lives := r.bucket.Conn().Stats().Reconnects; r.lives.Swap(lives) != lives {
			sleep(r.ctx, r.hold(), nil)
			r.pulse.renew()
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
			r.cfg.Logger.Debug("kvregistry: reaper", "bucket", r.bucket.Name(), "reason", err)
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

// dispense says once that this process leaves reaping to others.
func (r *Reaper) dispense(why error) {
	r.once.Do(func() {
		r.cfg.Logger.Info("kvregistry: does not reap, others have to", "bucket", r.bucket.Name(), "reason", why)
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
	defer r.pulse.run(ctx, cancel, r.bucket, queue, r.cfg.TTL)()
	for {
		if err := r.serveBatch(ctx, queue, up); err != nil {
			return err
		}
	}
}

// serveBatch makes one request to the queue and deals with what comes. A reaper in doubt leaves its place to others.
func (r *Reaper) serveBatch(ctx context.Context, queue jetstream.Consumer, up <-chan nats.Status) error {
	if !r.bucket.Conn().IsConnected() || r.reconnected() { // requests would pile up until it is
		return errReconnected
	}
	if r.doubtful() {
		sleep(ctx, r.hold()/12, up)
		return context.Cause(ctx)
	}
	request, cancel := r.bucket.Try(ctx, standby, "$JS.API.CONSUMER.MSG.NEXT."+r.bucket.Stream()+"."+queueName)
	defer cancel()
	batch, err := queue.Fetch(taken, jetstream.FetchContext(request))
	if err != nil {
		return err
	}
	for msgs := batch.Messages(); ; {
		select {
		case <-up:
			return errReconnected
		case msg, open := <-msgs:
			if !open {
				return notServed(ctx, r.bucket.Explain(request, cmp.Or(batch.Error(), context.Cause(request))))
			}
			if err := r.deal(msg, msgs); err != nil {
				return err
			}
		}
		if r.reconnected() {
			return errReconnected
		}
	}
}

// notServed says why a request to the queue ended, nil where it was only over.
func notServed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, jetstream.ErrBatchCompleted):
		return nil
	case strings.Contains(err.Error(), "Exceeded MaxWaiting"):
		return errStandby
	}
	return err
}

// deal takes a message and all that are there behind it, so that leases that ran out together are reaped
// together. What is not a marker is a heartbeat or a lease's end by its owner, and none of its business. The error is that of settle.
func (r *Reaper) deal(msg jetstream.Msg, more <-chan jetstream.Msg) error {
	var ended []jetstream.Msg
	var timer jetstream.Msg
	for {
		switch {
		case !tenant.IsMarker(msg.Headers()):
			_ = msg.Ack()
		case r.bucket.Key(msg.Subject()) == tenant.SweepKey:
			timer = msg
		default:
			ended = append(ended, msg)
		}
		var ok bool
		select {
		case msg, ok = <-more:
		default:
		}
		if !ok {
			break
		}
	}
	var reaped, swept error
	if ended != nil {
		reaped = r.settle(ended, r.reap)
	}
	if timer != nil {
		swept = r.settle([]jetstream.Msg{timer}, r.sweep)
	}
	return cmp.Or(reaped, swept)
}

// settle does the work that messages ask for, and acknowledges them when it is done. In doubt it holds
// them back, to look again soon; after a failure they come again. The error says that the server does not let this reaper work.
func (r *Reaper) settle(msgs []jetstream.Msg, work func([]jetstream.Msg) error) error {
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
		if !r.failing {
			r.cfg.Logger.Warn("kvregistry: could not reap, trying again", "bucket", r.bucket.Name(), "reason", err)
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
