package kvregistry

import (
	"context"
	"crypto/ed25519"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/internal/wire"
)

// Signer signs registrations. A key pair of github.com/nats-io/nkeys is one.
type Signer interface {
	PublicKey() (string, error)
	Sign(data []byte) (signature []byte, err error)
}

var (
	errUnsigned  = errors.New("it is not signed, and its service's signers are given: TrustSigners")
	errUntrusted = errors.New("its signer is none of those that are given for its service: TrustSigners")
	errForged    = errors.New("its signature does not hold")
)

// SignWith has this registry sign what it registers: with an Ed25519 key as NATS users have them. Those who observe with
// [TrustSigners] believe it by that.
func SignWith(s Signer) Option {
	return func(o *options) error {
		if s == nil {
			return fmt.Errorf("%w: SignWith is nil", ErrInvalidOption)
		}
		public, err := s.PublicKey()
		if err == nil {
			_, err = publicKey(public)
		}
		if err != nil {
			return fmt.Errorf("%w: SignWith: %w", ErrInvalidOption, err)
		}
		o.signer, o.public = s, public
		return nil
	}
}

// TrustSigners has this registry believe only those registrations of a service that one of the public nkeys has signed. Others are skipped, counted and
// logged, and do not fence an owner. Name may be [Everything], for services that have no signers of their own; a service without
// either is believed as it stands. The option may be given for several services.
func TrustSigners(name string, public ...string) Option {
	return func(o *options) error {
		if name != Everything {
			if err := checkName(name); err != nil {
				return fmt.Errorf("%w: TrustSigners: %w", ErrInvalidOption, err)
			}
		}
		if len(public) == 0 {
			return fmt.Errorf("%w: TrustSigners of service %q has no keys; leave it out to believe anybody", ErrInvalidOption, name)
		}
		for _, p := range public {
			if _, err := publicKey(p); err != nil {
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

// encode makes the value of a registration's key, signed where there is a signer.
func (r *Registry) encode(s Service, key, lease string) ([]byte, error) {
	if r.opt.signer == nil {
		return encode(record{Format: wire.Format, Lease: lease, Owner: r.id}, s, r.opt.bounds.record)
	}
	instance, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInvalidService, s.Name, err)
	}
	signature, err := r.opt.signer.Sign(signed(r.bucket.Name(), key, lease, r.id, instance))
	if err != nil {
		return nil, fmt.Errorf("%w %q: it can't be signed: %w", ErrInvalidService, s.Name, err)
	}
	return encode(record{Format: wire.Format, Lease: lease, Owner: r.id, Signer: r.opt.public, Signature: signature}, s, r.opt.bounds.record)
}

// sign signs what a registration's next write says, before its turn comes: the signer may take its
// time, and others write meanwhile. If the lease or the content is another by then, it is signed
// once more.
func (r *Registry) sign(ctx context.Context, g *registration) {
	if r.opt.signer == nil {
		return
	}
	s, version, ok := r.own.content(g)
	if !ok {
		return
	}
	l, err := r.leaseFor(ctx, g)
	if err != nil || r.own.clean(g, l.ID) {
		return
	}
	if value, err := r.encode(s, g.key, l.ID); err == nil { // an error is met again by the write
		r.own.keep(g, draft{version, l.ID, value})
	}
}

// unsigned is a record as long as a signed one, of any lease.
func (r *Registry) unsigned() record {
	rec := record{Format: wire.Format, Lease: r.anyLease(), Owner: r.id, Signer: r.opt.public}
	if r.opt.signer != nil {
		rec.Signature = make([]byte, ed25519.SignatureSize)
	}
	return rec
}

// signed is what a signature is of: everything that a registration says, and where it stands. A lease is never used twice, so
// a registration that is written again later, by somebody else, lives by a lease that is over.
func signed(bucket, key, lease, owner string, instance []byte) []byte {
	return slices.Concat([]byte(strings.Join([]string{"kvregistry 1", bucket, key, lease, owner, ""}, "\n")), instance)
}

// signersOf are those who may sign for a service, nil where anybody is believed.
func (o *options) signersOf(name string) []string {
	if trusted, ok := o.trusted[name]; ok {
		return trusted
	}
	return o.trusted[Everything]
}

// believe says who signed a registration, or why it is not believed. The bytes that were signed are
// those that the instance was read from.
func believe(trusted []string, bucket string, s *sighting) (signer string, err error) {
	p, err := wire.Split(s.Value)
	if err != nil {
		return "", err
	}
	signer, err = document.Text(p.Signer)
	if err != nil || signer == "" {
		return "", errUnsigned
	}
	n := slices.Index(trusted, signer)
	if n < 0 {
		return "", errUntrusted
	}
	public, err := publicKey(signer)
	if err != nil {
		return "", errForged
	}
	text, err := document.Text(p.Signature)
	if err != nil {
		return "", errForged
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !ed25519.Verify(public, signed(bucket, s.Key, s.rec.Lease, s.rec.Owner, p.Instance), signature) {
		return "", errForged
	}
	return trusted[n], nil // the one copy of it
}

// publicKey reads a public nkey: a byte that says what it is for, the Ed25519 key, and a check sum, in base 32.
func publicKey(text string) (ed25519.PublicKey, error) {
	const seed = 18 << 3 // an nkey's first byte, where it is a secret
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	switch {
	case err != nil || len(raw) != 1+ed25519.PublicKeySize+2 || crc16(raw[:33]) != uint16(raw[33])|uint16(raw[34])<<8:
		if strings.HasPrefix(text, "S") {
			return nil, errors.New("what is given for a public nkey may be a seed; pass the public key")
		}
		return nil, fmt.Errorf("%.3q… is no public nkey, as UD… with 56 letters", text)
	case raw[0]&0xf8 == seed:
		return nil, errors.New("a seed is given for a public nkey; pass the public key")
	}
	return raw[1:33], nil
}

// crc16 is the check sum of nkeys: polynomial 0x1021, beginning with 0.
func crc16(data []byte) (sum uint16) {
	for _, b := range data {
		sum ^= uint16(b) << 8
		for range 8 {
			if sum&0x8000 != 0 {
				sum = sum<<1 ^ 0x1021
			} else {
				sum <<= 1
			}
		}
	}
	return sum
}

// sign notes who signed an instance. The caller holds c.mu.
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

// unsign forgets who signed an instance. The caller holds c.mu.
func (c *cache) unsign(s *sighting) {
	of := c.signers[s.name]
	delete(of, s.id)
	if len(of) == 0 {
		delete(c.signers, s.name)
	}
}

// signed is a service's snapshot, and who signed what is in it, by id.
func (c *cache) signed(svc *service) (*Snapshot, map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return svc.snap.Load(), maps.Clone(c.signers[svc.name])
}
