// Package transport sends HTTP requests, and makes connections, to services by their names.
//
// A [Transport] is an [http.RoundTripper] for URLs whose host is a service's name:
//
//	t, err := transport.New(reg)
//	client := &http.Client{Transport: t}
//	resp, err := client.Get("http://httptest/path")
//
// Each request goes to one instance, which a prepared look-up of package kvregistry chooses, and is sent by a
// RoundTripper of net/http. Where that fails, the request may be sent to another instance: see [Transport.RoundTrip].
// [Transport.DialContext] does the same for whatever is not HTTP.
//
// What came of a request or of a connection is told to the look-up once it is over: when the body was read or closed, or
// the connection closed.
//
// The package keeps no list of instances, checks no health and sends nothing twice at a time. It imports the standard library and package
// kvregistry only.
package transport
