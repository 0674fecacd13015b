package tenant

import (
	"fmt"
	"strconv"
	"strings"
)

// The keys of a bucket:
//
//	svc.<service>.<id>    a registration, without TTL
//	lock.<name>.<ticket>  a place in the line for a name that one process holds at a time, without TTL
//	lease.<lease id>      a lease, with TTL
//	reaper.0, reaper.1    the reaper slots, with TTL
const (
	AllKeys     = ">"        // filter: the whole bucket
	AllServices = "svc.>"    // filter: every registration
	AllTickets  = "lock.*.*" // filter: every ticket
)

// Slots is the number of a bucket's reaper slots.
const Slots = 2

// everything is the name that stands for all services. No service has it.
const everything = "*"

// serviceToken is the key token of a service's name.
func serviceToken(service string) (string, error) {
	if service == everything {
		return "", fmt.Errorf("%w: %q stands for all services; take another", ErrInvalidName, service)
	}
	return EncodeToken(service)
}

// ServiceKey is the key of an instance's registration; the error wraps [ErrInvalidName].
func ServiceKey(service, id string) (string, error) {
	s, err := serviceToken(service)
	if err != nil {
		return "", err
	}
	i, err := EncodeToken(id)
	if err != nil {
		return "", err
	}
	return "svc." + s + "." + i, nil
}

// ServiceFilter is the filter of all registrations of a service; the error wraps [ErrInvalidName].
func ServiceFilter(service string) (string, error) {
	s, err := serviceToken(service)
	if err != nil {
		return "", err
	}
	return "svc." + s + ".*", nil
}

// ParseServiceKey is the inverse of [ServiceKey]; ok is false for any key that ServiceKey does not make.
func ParseServiceKey(key string) (service, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, "svc.")
	if !ok {
		return "", "", false
	}
	s, i, ok := strings.Cut(rest, ".")
	if !ok {
		return "", "", false
	}
	service, err := DecodeToken(s)
	if err != nil || service == everything {
		return "", "", false
	}
	id, err = DecodeToken(i)
	return service, id, err == nil
}

// LockFilter is the filter of all tickets of a name; the error wraps [ErrInvalidName]. A ticket's key has its id, a key token, in place of the '*'.
func LockFilter(name string) (string, error) {
	n, err := EncodeToken(name)
	if err != nil {
		return "", err
	}
	return "lock." + n + ".*", nil
}

// ByLease reports whether a key is of those that live by a lease, and are purged with it: registrations and tickets.
func ByLease(key string) bool {
	return strings.HasPrefix(key, "svc.") || strings.HasPrefix(key, "lock.")
}

// LeaseKey is the key of a lease. Lease ids are made by package lease and are key tokens already.
func LeaseKey(id string) string { return "lease." + id }

// ParseLeaseKey is the inverse of [LeaseKey]; ok is false where the id is empty or longer than [MaxName] bytes, as none is.
func ParseLeaseKey(key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, "lease.")
	return id, ok && id != "" && len(id) <= MaxName
}

// SlotKey is the key of a reaper slot, from 0 up to [Slots].
func SlotKey(slot int) string { return "reaper." + strconv.Itoa(slot) }
