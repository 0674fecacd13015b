// Package transport sends HTTP requests, and makes connections, to services by their names.
//
// A [Transport] is an [http.RoundTripper] for URLs whose host is a service's name:
//
//	t, err := transport.New(reg)
//	client := &http.Client{Transport: t}
//	resp, err := client.Get("http://httptest/path")
//
// Each request goes to one instance, which a prepared look-up of package kvregistry chooses, and is
// sent by a RoundTripper of net/http. If that fails, the request may be sent to another instance:
// see [Transport.RoundTrip]. [Transport.DialContext] does the same for other protocols.
//
// The look-up is told the outcome of a request when its body was read or closed, and of a
// connection when it was closed.
//
// The package keeps no list of instances, checks no health, and sends a request to one instance at
// a time. It imports the standard library and package kvregistry only.
package transport
