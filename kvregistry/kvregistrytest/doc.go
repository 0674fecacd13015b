// Package kvregistrytest gives a test a registry on a NATS server of its own.
//
// [New] starts a nats-server with JetStream in the test's process, on loopback and in a few
// milliseconds, and opens a registry on it. Everything ends with the test:
//
//	func TestMovesOn(t *testing.T) {
//		env := kvregistrytest.New(t)
//		for _, id := range []string{"a", "b"} { // two processes of the service
//			if _, err := env.Open().Register(kvregistry.Service{
//				Name: "web", ID: id, Address: "127.0.0.1:80"}); err != nil {
//				t.Fatal(err)
//			}
//		}
//		env.Kill("a") // one of them crashes
//		...
//	}
//
// [Env.Open] is another process of the tenant, [Env.Kill] is a crash, and [Env.StopServer] and
// [Env.StartServer] are an outage of NATS.
//
// The package imports nats-server, so import it in tests alone.
package kvregistrytest
