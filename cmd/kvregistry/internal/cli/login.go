package cli

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
	"github.com/synadia-io/orbit.go/natscontext"
)

// Login holds the options by which a command connects. They are named as those of the nats command,
// and the environment variables of that command stand for them, too.
type Login struct {
	context, url, user, password, creds, nkey, cert, key, ca, inbox string
}

// Flags adds the options of a login.
func (l *Login) Flags(fs *pflag.FlagSet) {
	natsVar(fs, &l.url, "server", "NATS_URL", "`URL` of the server, with user and password if it "+
		"asks for them (default "+nats.DefaultURL+")")
	natsVar(fs, &l.context, "context", "NATS_CONTEXT", "`name` of a context of the nats command; "+
		"without --server the selected one by default")
	natsVar(fs, &l.user, "user", "NATS_USER", "`name` of the user, or a token")
	natsVar(fs, &l.password, "password", "NATS_PASSWORD", "the user's `password`; other users of "+
		"the machine cannot see the variable")
	natsVar(fs, &l.creds, "creds", "NATS_CREDS", "credentials `file`")
	natsVar(fs, &l.nkey, "nkey", "NATS_NKEY", "`file` with the seed of an nkey")
	natsVar(fs, &l.cert, "tlscert", "NATS_CERT", "`file` with the client's certificate")
	natsVar(fs, &l.key, "tlskey", "NATS_KEY", "`file` with its key")
	natsVar(fs, &l.ca, "tlsca", "NATS_CA", "`file` with the certificates of the authorities that "+
		"signed the server's")
	natsVar(fs, &l.inbox, "inbox", "", "`prefix` of the user's answers, as \"tenant permissions\" "+
		"prints it")
	for _, name := range connectionOptions {
		_ = fs.SetAnnotation(name, ofConnection, nil) // the option is there
	}
}

// Short adds the options of a second login of a command, whose names begin with a prefix.
func (l *Login) Short(fs *pflag.FlagSet, prefix, whose string) {
	fs.StringVar(&l.url, prefix+"server", "", "`URL` of "+whose)
	fs.StringVar(&l.context, prefix+"context", "", "`name` of a context of the nats command for it")
	fs.StringVar(&l.creds, prefix+"creds", "", "credentials `file` for it")
}

// Over is l, which [Login.Short] read, with what it shares with the command's own login: the
// server, unless l names one, and the authorities.
func (l Login) Over(base Login) Login {
	if l.url == "" && l.context == "" {
		l.url, l.context = base.url, base.context
	}
	l.ca = base.ca
	return l
}

// Given reports whether one of the options was given.
func (l *Login) Given() bool { return *l != (Login{}) }

// natsVar adds an option for which a variable of the nats command stands, too.
func natsVar(fs *pflag.FlagSet, to *string, name, variable, usage string) {
	fs.StringVar(to, name, "", usage)
	if variable != "" {
		_ = fs.SetAnnotation(name, natsVariable, []string{variable}) // the option is there
	}
}

// Connect logs in. The name of the connection is "kvregistry" and the command's.
func (l *Login) Connect(command string, opts ...nats.Option) (*nats.Conn, error) {
	own, err := l.options()
	if err != nil {
		return nil, err
	}
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}) // no print
	own = append(own, nats.Name("kvregistry "+command), quiet)
	nc, err := l.dial(append(own, opts...))
	if err != nil {
		return nil, fmt.Errorf("can't connect to NATS: %w; check --server, or log in with a "+
			"file: --creds", err)
	}
	return nc, nil
}

// dial connects to the server that is named, or to that of a context of the nats command.
func (l *Login) dial(opts []nats.Option) (*nats.Conn, error) {
	if l.context == "" && l.url != "" {
		return Dial(l.url, opts...)
	}
	opts = append(opts, func(o *nats.Options) error {
		if l.url != "" {
			o.Servers = strings.Split(l.url, ",")
		} else if strings.Join(o.Servers, "") == "" { // no context is selected
			o.Servers = []string{nats.DefaultURL}
		}
		return nil
	})
	nc, _, err := natscontext.Connect(l.context, opts...)
	return nc, withoutURL(err)
}

// options are those of the connection. They stand above those of the context.
func (l *Login) options() (opts []nats.Option, err error) {
	if (l.cert == "") != (l.key == "") {
		return nil, Usagef("--tlscert and --tlskey go together")
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
	if l.inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(l.inbox))
	}
	switch {
	case l.user != "" && l.password == "":
		opts = append(opts, nats.Token(l.user))
	case l.user != "":
		opts = append(opts, nats.UserInfo(l.user, l.password))
	}
	if l.creds != "" {
		opts = append(opts, nats.UserCredentials(l.creds))
	}
	if l.nkey != "" {
		opt, err := nats.NkeyOptionFromSeed(l.nkey)
		if err != nil {
			return nil, Usagef("--nkey: %w", err)
		}
		opts = append(opts, opt)
	}
	if l.cert != "" {
		opts = append(opts, nats.ClientCert(l.cert, l.key))
	}
	if l.ca != "" {
		opts = append(opts, nats.RootCAs(l.ca))
	}
	return opts, nil
}
