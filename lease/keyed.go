package lease

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/watcher"
)

// A keyed lease can be renewed by the process that took it alone, even if others may write its key.
// The lease's id is an Ed25519 public key. Each heartbeat is signed with the private key, which
// never leaves the process. So nobody can keep a dead process's lease alive.

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// newKeyed makes the id of a keyed lease, and the key that signs its heartbeats.
func newKeyed() (id string, key ed25519.PrivateKey) {
	public, key, _ := ed25519.GenerateKey(nil) // crypto/rand does not fail
	return keyEncoding.EncodeToString(public), key
}

// keyOf returns the public key that a lease's id is; nil if the lease is not keyed.
func keyOf(id string) ed25519.PublicKey {
	raw, err := keyEncoding.DecodeString(id)
	if err != nil || len(raw) != ed25519.PublicKeySize || keyEncoding.EncodeToString(raw) != id {
		return nil
	}
	return raw
}

// statement is what a heartbeat's signature signs. A copy of a heartbeat counts for nothing later,
// because the revision below it is another one then.
func statement(bucket, id string, on uint64, ttl time.Duration) []byte {
	return fmt.Appendf(nil, "kvregistry lease 1\n%s\n%s\n%d\n%d\n", bucket, id, on, ttl/time.Second)
}

// value returns what a heartbeat writes on top of a revision.
func (k *Keeper) value(l *Lease, on uint64) []byte {
	value := k.cfg.Value
	if l.key != nil {
		signature := ed25519.Sign(l.key, statement(k.bucket.Name(), l.ID, on, k.cfg.TTL))
		value = fmt.Appendf(nil, `%s,"signature":"%s"}`, bytes.TrimSuffix(value, []byte("}")),
			base64.StdEncoding.EncodeToString(signature))
	}
	return padded(value, on)
}

// padded adds spaces to a value, to make up for the digits of the revision that its message names.
// A full bucket takes a message that is no longer than the one that it replaces.
func padded(value []byte, on uint64) []byte {
	const digits = 20 // of the largest revision
	spaces := digits - len(strconv.FormatUint(on, 10))
	return append(slices.Clone(value), bytes.Repeat([]byte(" "), spaces)...)
}

// grants reports whether a value of a lease's key keeps alive what names the lease. It must have
// the TTL of a lease, and the signature of a keyed one.
func (r *Reaper) grants(id string, ch watcher.Change) bool {
	if ch.TTL <= 0 || ch.TTL > MaxTTL {
		return false
	}
	key := keyOf(id)
	if key == nil {
		return true
	}
	if ch.If == nil {
		return false
	}
	said := statement(r.bucket.Name(), id, *ch.If, ch.TTL)
	return ed25519.Verify(key, said, signatureOf(ch.Value))
}

// signatureOf returns the signature in a heartbeat's value; nil if there is none.
func signatureOf(value []byte) (signature []byte) {
	for m, _ := document.Read(value); m.Next(); {
		if string(m.Name) == "signature" {
			text, _ := document.Text(m.Value)
			signature, _ = base64.StdEncoding.DecodeString(text)
		}
	}
	return signature
}
