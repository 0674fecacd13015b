// Package endpoint knows where an instance is reached: it checks addresses and URLs, finds those of
// this host, and waits until something listens at one.
package endpoint

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// CheckURL says what keeps a URL from being one that callers can use; "" if nothing does.
func CheckURL(text string) string {
	u, err := url.Parse(text)
	unix := err == nil && (strings.HasPrefix(u.Scheme, "unix") ||
		strings.HasSuffix(u.Scheme, "+unix"))
	switch {
	case err != nil: // it quotes pieces of the URL
		return "URL does not parse; write it as http://host:port/path, with other characters as %XX"
	case unix && u.Host == "" && u.Opaque == "" && strings.Trim(u.Path, "/") != "":
		return ""
	// what is taken for a host or a path may be a user's password
	case !u.IsAbs() || u.Opaque != "" || u.Host == "" && !strings.Contains(text, "://"):
		return "URL has no scheme or no host; write it as http://host:port/path"
	case u.Host == "":
		return "URL has no scheme or no host" + quoted(text) + "; write it as http://host:port/path"
	case Everywhere(u.Hostname()):
		return "URL names no host, but all addresses that a server listens at" + quoted(text) +
			"; put this host's own there, as OutboundIP gives it"
	case unix: // its host is a path
		return ""
	}
	why := checkHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if port := u.Port(); why == "" && (port != "" || strings.HasSuffix(u.Host, ":")) {
		why = checkPort(port)
	}
	if why != "" {
		return "URL " + why + quoted(text)
	}
	return ""
}

// CheckAddress says what keeps an address from being one that callers can connect to; "" if nothing
// does. Networks other than TCP and UDP have addresses of their own.
func CheckAddress(network, address string) string {
	if network == "" && strings.HasPrefix(address, "/") { // a socket's path
		return ""
	}
	switch network {
	case "", "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	case "unix", "unixgram", "unixpacket":
		return ""
	default:
		return fmt.Sprintf("Network is %.40q; use tcp, udp or unix", network)
	}
	host, port, err := net.SplitHostPort(address)
	switch {
	case strings.Contains(address, "://"):
		return "Address is a URL" + quoted(address) + "; set URL instead, or write it as host:port"
	case err != nil && strings.Count(address, ":") > 1 && !strings.HasPrefix(address, "["):
		return "Address has too many colons" + quoted(address) +
			"; write it as host:port, IPv6 in brackets as [::1]:port"
	case err != nil:
		return "Address has no port" + quoted(address) +
			"; write it as host:port, IPv6 as [::1]:port"
	case Everywhere(host):
		return "Address names no host, but all addresses that a server listens at" +
			quoted(address) +
			"; put this host's own there, as FromListener does where it can be known"
	}
	why := checkHost(host, strings.HasPrefix(address, "["))
	if why == "" {
		why = checkPort(port)
	}
	if why != "" {
		return "Address " + why + quoted(address)
	}
	return ""
}

// quoted is a text for an error. What may be a password is left out: all of it if it may have a
// user, whose password ends nobody knows where, and a URL's query.
func quoted(text string) string {
	if strings.Contains(text, "@") {
		return ""
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i] + "…"
	}
	return fmt.Sprintf(": %.100q", text)
}

// checkPort says what is wrong with a port that callers are to connect to; "" if nothing is.
func checkPort(port string) string {
	n, err := strconv.ParseUint(port, 10, 64)
	switch {
	case port == "":
		return "has no port; write it as host:port"
	case err != nil:
		return "has a port that is no number; use 1 to 65535"
	case n == 0:
		return "has port 0, which stands for any; use the one that the listener has, as " +
			"FromListener does"
	case n > 65535:
		return "has a port that is too high; use 1 to 65535"
	}
	return ""
}

// checkHost says what is wrong with a host; "" if nothing is. It is an IP address or a name: labels
// of letters, digits, hyphens and underscores. brackets says that it stood in brackets.
func checkHost(host string, brackets bool) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is6() && !brackets {
			return "has an IPv6 address without brackets; write it as [::1]:port"
		}
		return ""
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	last := labels[len(labels)-1]
	switch {
	case brackets:
		return "has brackets around what is no IPv6 address"
	case len(name) > 253:
		return "has a host that is longer than a name can be"
	case len(labels) > 1 && strings.Trim(last, "0123456789") == "" && last != "":
		return "has a host that is no IP address, and no name ends in a number"
	}
	for _, label := range labels {
		if label == "" {
			return "has a host with an empty label; write a name as web.example.com"
		}
		if len(label) > 63 {
			return "has a host with a label of more than 63 bytes"
		}
		if strings.IndexFunc(label, func(r rune) bool {
			return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsMark(r) &&
				!unicode.IsDigit(r)
		}) >= 0 {
			return "has a host with characters that none has; use letters, digits, hyphens and dots"
		}
	}
	return ""
}
