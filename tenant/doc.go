// Package tenant turns a tenant's name into the space its services live in: one JetStream
// key-value bucket, registry_<tenant>, and the keys inside it.
//
// It checks and encodes names so that each is one key token and no name reaches another's keys
// ([EncodeToken], [ServiceKey]); makes the bucket, or checks the one that it finds
// ([Bucket.Ensure]); and offers the few reads and writes that the other packages are built from:
// compare-and-swap writes with a time to live ([Bucket.Write]), one read ([Bucket.Get]) and a scan
// ([Bucket.Scan]).
//
// What an operator does with tenants is in package operator.
//
// It knows nothing of leases' lives, of views or of what a registration says.
package tenant
