package tenant

import (
	"fmt"
	"strconv"
	"strings"
)

// The keys of a bucket:
//
//	svc.<service>.<id>    a registration, without TTL
//	lock.<name>.<ticket>  a place in the line for a name, without TTL
//	lease.<lease id>      a lease, with TTL
//	reaper.0, reaper.1    the reaper slots, with TTL
//
// One process at a time holds a name.
const (
	AllKeys     = ">"        // filter: the whole bucket
	AllServices = "svc.>"    // filter: every registration
	AllLeases   = "lease.*"  // filter: every lease
	AllTickets  = "lock.*.*" // filter: every ticket
)

// The kinds of keys: their first tokens.
const (
	services = "svc"
	tickets  = "lock"
	leases   = "lease"
	slots    = "reaper"
)

// kind is the first token of a key.
func kind(key string) string {
	first, _, _ := strings.Cut(key, ".")
	return first
}

// Slots is the number of a bucket's reaper slots.
const Slots = 2

// everything is the name that stands for all services. No service has it.
const everything = "*"

// ServiceKey returns the key of an instance's registration. The error wraps [ErrInvalidName].
func ServiceKey(service, id string) (string, error) {
	filter, err := ServiceFilter(service)
	if err != nil {
		return "", err
	}
	i, err := EncodeToken(id)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(filter, "*") + i, nil
}

// ServiceFilter returns the filter of all registrations of a service. The error wraps
// [ErrInvalidName].
func ServiceFilter(service string) (string, error) {
	if service == everything {
		return "", fmt.Errorf("%w: %q stands for all services; take another",
			ErrInvalidName, service)
	}
	return allOf(services, service)
}

// allOf returns the filter of the keys of a kind with a name.
func allOf(kind, name string) (string, error) {
	n, err := EncodeToken(name)
	if err != nil {
		return "", err
	}
	return kind + "." + n + ".*", nil
}

// ParseServiceKey is the inverse of [ServiceKey]. ok is false for any key that ServiceKey does not
// make.
func ParseServiceKey(key string) (service, id string, ok bool) { return parse(services, key) }

// ParseTicketKey returns the name and the id of a [TicketKey]. ok is false for any other key.
func ParseTicketKey(key string) (name, id string, ok bool) { return parse(tickets, key) }

// parse returns the name and the id in a key of a kind.
func parse(kind, key string) (name, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, kind+".")
	if !ok {
		return "", "", false
	}
	n, i, ok := strings.Cut(rest, ".")
	if !ok {
		return "", "", false
	}
	name, err := decodeToken(n)
	if err != nil || name == everything {
		return "", "", false
	}
	id, err = decodeToken(i)
	return name, id, err == nil
}

// LockFilter returns the filter of all tickets in the line for a name. The error wraps
// [ErrInvalidName].
func LockFilter(name string) (string, error) { return allOf(tickets, name) }

// TicketKey returns the key of a ticket in a line. filter is what [LockFilter] returns, and id is
// a key token.
func TicketKey(filter, id string) string { return strings.TrimSuffix(filter, "*") + id }

// Siblings returns the filter of all keys that differ from a key in the last token alone: those of
// one service, or of one line. It returns such a filter as it is.
func Siblings(key string) string { return key[:strings.LastIndexByte(key, '.')+1] + "*" }

// ByLease reports whether a key lives by a lease, and is purged with it: registrations and tickets
// do.
func ByLease(key string) bool {
	return strings.HasPrefix(key, services+".") || strings.HasPrefix(key, tickets+".")
}

// LeaseKey returns the key of a lease. Package lease makes the ids of leases, which are key
// tokens.
func LeaseKey(id string) string { return leases + "." + id }

// ParseLeaseKey is the inverse of [LeaseKey]. ok is false if the id is empty or longer than
// [MaxName] bytes, as no id is.
func ParseLeaseKey(key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, leases+".")
	return id, ok && id != "" && len(id) <= MaxName
}

// SlotKey returns the key of a reaper slot, from 0 up to [Slots].
func SlotKey(slot int) string { return slots + "." + strconv.Itoa(slot) }

// IsSlotKey reports whether a key is a reaper slot's, whatever its number is.
func IsSlotKey(key string) bool { return strings.HasPrefix(key, slots+".") }
