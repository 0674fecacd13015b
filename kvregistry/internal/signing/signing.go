// Package signing has what a registration's signature is of, and believes one or not.
package signing

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/internal/wire"
)

// Size is how many bytes a signature has.
const Size = ed25519.SignatureSize

// Why a registration is not believed.
var (
	ErrUnsigned  = errors.New("it is not signed, and its service's signers are given: TrustSigners")
	ErrUntrusted = errors.New("its signer is none of those that are given for its service: " +
		"TrustSigners")
	ErrForged = errors.New("its signature does not hold")
)

// Place is where a registration stands, which its signature is of too. A lease is never used twice,
// so a registration that somebody else writes again later lives by a lease that is over.
type Place struct{ Bucket, Key, Lease, Owner string }

// Text returns what a signature covers: all that a registration says, and its place.
// instance has the bytes that stand in the value.
func (p Place) Text(instance []byte) []byte {
	return slices.Concat([]byte(strings.Join([]string{"kvregistry 1", p.Bucket, p.Key, p.Lease,
		p.Owner, ""}, "\n")), instance)
}

// Believe returns the one of the trusted that signed the value at a place, or why it is not
// believed.
func Believe(trusted []string, at Place, value []byte) (signer string, err error) {
	parts, err := wire.Split(value)
	if err != nil {
		return "", err
	}
	signer, err = document.Text(parts.Signer)
	if err != nil || signer == "" {
		return "", ErrUnsigned
	}
	n := slices.Index(trusted, signer)
	if n < 0 {
		return "", ErrUntrusted
	}
	public, err := PublicKey(signer)
	if err != nil {
		return "", ErrForged
	}
	text, err := document.Text(parts.Signature)
	if err != nil {
		return "", ErrForged
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !ed25519.Verify(public, at.Text(parts.Instance), signature) {
		return "", ErrForged
	}
	return trusted[n], nil // the one copy of it
}

// PublicKey reads a public nkey: a byte that says what it is for, the Ed25519 key, and a check sum,
// in base 32.
func PublicKey(text string) (ed25519.PublicKey, error) {
	const seed = 18 << 3 // an nkey's first byte, if it is a secret
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	switch {
	case err != nil || len(raw) != 1+ed25519.PublicKeySize+2 ||
		crc16(raw[:33]) != uint16(raw[33])|uint16(raw[34])<<8:
		if strings.HasPrefix(text, "S") {
			return nil, errors.New("what is given for a public nkey may be a seed; pass the " +
				"public key")
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
