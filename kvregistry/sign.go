package kvregistry

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry/internal/signing"
)

// Signer signs registrations. A key pair of github.com/nats-io/nkeys is one.
type Signer interface {
	PublicKey() (string, error)
	Sign(data []byte) (signature []byte, err error)
}

// SignWith has this registry sign what it registers, with an Ed25519 key as NATS users have them.
// Registries with [TrustSigners] believe it by that.
func SignWith(s Signer) Option {
	return func(o *options) error {
		if s == nil {
			return fmt.Errorf("%w: SignWith is nil", ErrInvalidOption)
		}
		public, err := s.PublicKey()
		if err == nil {
			_, err = signing.PublicKey(public)
		}
		if err != nil {
			return fmt.Errorf("%w: SignWith: %w", ErrInvalidOption, err)
		}
		o.signer, o.public = s, public
		return nil
	}
}

// TrustSigners has this registry believe only those registrations of a service that one of the
// public nkeys has signed. It skips, counts and logs others, and they do not fence an owner. Name
// may be [Everything], for services that have no signers of their own; a service without either is
// believed as it stands. The option may be given for several services.
func TrustSigners(name string, public ...string) Option {
	return func(o *options) error {
		if name != Everything {
			if err := checkName(name); err != nil {
				return fmt.Errorf("%w: TrustSigners: %w", ErrInvalidOption, err)
			}
		}
		if len(public) == 0 {
			return fmt.Errorf("%w: TrustSigners of service %q has no keys; leave it out to "+
				"believe anybody", ErrInvalidOption, name)
		}
		for _, p := range public {
			if _, err := signing.PublicKey(p); err != nil {
				return fmt.Errorf("%w: TrustSigners of service %q: %w", ErrInvalidOption, name, err)
			}
		}
		if o.trusted == nil {
			o.trusted = map[string][]string{}
		}
		o.trusted[name] = append(o.trusted[name], public...)
		return nil
	}
}

// Encode makes the value of a registration's key, signed if there is a signer.
func (w *owned) Encode(s *Service, key, lease string) ([]byte, error) {
	if w.r.opt.signer == nil {
		return encode(record{Format: wire.Format, Lease: lease, Owner: w.r.id}, *s,
			w.r.opt.bounds.record)
	}
	instance, err := json.Marshal(*s)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInvalidService, s.Name, err)
	}
	signature, err := w.r.opt.signer.Sign(signing.Place{Bucket: w.r.bucket.Name(), Key: key,
		Lease: lease, Owner: w.r.id}.Text(instance))
	if err != nil {
		return nil, fmt.Errorf("%w %q: it can't be signed: %w", ErrInvalidService, s.Name, err)
	}
	return encode(record{Format: wire.Format, Lease: lease, Owner: w.r.id, Signer: w.r.opt.public,
		Signature: signature}, *s, w.r.opt.bounds.record)
}

// unsigned is a record as long as a signed one, of any lease.
func (w *owned) unsigned() record {
	rec := record{Format: wire.Format, Lease: w.anyLease(), Owner: w.r.id, Signer: w.r.opt.public}
	if w.r.opt.signer != nil {
		rec.Signature = make([]byte, signing.Size)
	}
	return rec
}

// signersOf returns the public keys that may sign for a service. It returns nil if every signer is
// trusted.
func (o *options) signersOf(name string) []string {
	if trusted, ok := o.trusted[name]; ok {
		return trusted
	}
	return o.trusted[Everything]
}

// sign notes the signer of an instance. The caller holds c.mu.
func (c *cache) sign(s *sighting) {
	switch of := c.signers[s.name]; {
	case s.signer == "":
		c.unsign(s)
	case of == nil:
		c.signers[s.name] = map[string]string{s.id: s.signer}
	default:
		of[s.id] = s.signer
	}
}

// unsign forgets the signer of an instance. The caller holds c.mu.
func (c *cache) unsign(s *sighting) {
	of := c.signers[s.name]
	delete(of, s.id)
	if len(of) == 0 {
		delete(c.signers, s.name)
	}
}

// signed returns a service's snapshot, and the signers of its instances by id.
func (c *cache) signed(svc *service) (*Snapshot, map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return svc.snap.Load(), maps.Clone(c.signers[svc.name])
}
