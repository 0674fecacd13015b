package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// login holds the options by which a command connects.
type login struct{ url, creds, nkey, cert, key, ca, inbox string }

func (l *login) flags(fs *flag.FlagSet) {
	fs.StringVar(&l.url, "server", nats.DefaultURL, "`URL` of the server, with user and password "+
		"if it asks for them")
	fs.StringVar(&l.creds, "creds", "", "credentials `file`")
	fs.StringVar(&l.nkey, "nkey", "", "`file` with the seed of an nkey")
	fs.StringVar(&l.cert, "tlscert", "", "`file` with the client's certificate")
	fs.StringVar(&l.key, "tlskey", "", "`file` with its key")
	fs.StringVar(&l.inbox, "inbox", "", "`prefix` of the user's "+
		"answers, as \"tenant permissions\" prints it")
	fs.StringVar(&l.ca, "tlsca", "", "`file` with the certificates of the authorities that "+
		"signed the server's")
}

// do connects, calls a function and disconnects.
func (l *login) do(f func(ctx context.Context, nc *nats.Conn) error) error {
	nc, err := l.connect(nats.Name("kvregistry tenant"),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return f(ctx, nc)
}

// connect logs in.
func (l *login) connect(opts ...nats.Option) (*nats.Conn, error) {
	if l.inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(l.inbox))
	}
	if (l.cert == "") != (l.key == "") {
		return nil, wrongUsage("--tlscert and --tlskey go together")
	}
	for option, file := range map[string]string{"creds": l.creds, "nkey": l.nkey, "tlscert": l.cert,
		"tlskey": l.key, "tlsca": l.ca} {
		if file == "" {
			continue
		}
		if err := readable(option, file); err != nil {
			return nil, err
		}
	}
	if l.creds != "" {
		opts = append(opts, nats.UserCredentials(l.creds))
	}
	if l.nkey != "" {
		opt, err := nats.NkeyOptionFromSeed(l.nkey)
		if err != nil {
			return nil, wrongUsage("--nkey: %w", err)
		}
		opts = append(opts, opt)
	}
	if l.cert != "" {
		opts = append(opts, nats.ClientCert(l.cert, l.key))
	}
	if l.ca != "" {
		opts = append(opts, nats.RootCAs(l.ca))
	}
	nc, err := dial(l.url, opts...)
	if err != nil {
		return nil, fmt.Errorf("can't connect to NATS: %w; check --server, or log in with a "+
			"file: --creds", err)
	}
	return nc, nil
}

// report calls a function and then prints what was done.
func (l *login) report(std streams, done string,
	f func(ctx context.Context, nc *nats.Conn) error) error {
	return l.do(func(ctx context.Context, nc *nats.Conn) error {
		if err := f(ctx, nc); err != nil {
			return err
		}
		_, err := fmt.Fprintln(std.out, done)
		return err
	})
}
