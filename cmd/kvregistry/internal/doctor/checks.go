package doctor

// check is a row of the table. run returns what is wrong, or why that can't be said.
type check struct {
	name  string
	about string // what it finds
	run   func(*facts) ([]Finding, error)
}

// checks is the table. Checks of what stops everything come first.
var checks = []check{
	{"server-version", "a nats-server that is older than 2.11", serverVersion},
	{"server-versions", "servers of unlike versions (system account)", serverVersions},
	{"jetstream", "JetStream is off, is off for the account, or does not answer", jetStream},
	{"bucket", "the tenant has no bucket", bucketThere},
	{"domain", "a bucket in two JetStream domains, or a leaf node without a mirror", domains},
	{"permissions", "what the user may not do and its role should", permissions},
	{"bucket-settings", "settings of the bucket with which no registry works", settings},
	{"replicas", "a replica that is offline or lags, or no leader", replicas},
	{"mirror", "a mirror that is dead, lags, or is of a bucket that is no more", mirror},
	{"bucket-room", "a bucket that is nearly full", room},
	{"account-room", "an account near its limit of storage or consumers", accountRoom},
	{"ha-assets", "a server near its limit of streams with replicas (system account)", haAssets},
	{"consumers", "a bucket near its limit of consumers", consumers},
	{"no-reaper", "nobody removes what dead processes left", noReaper},
	{"reaper-in-doubt", "reapers that have waited for long", reaperInDoubt},
	{"dead-registrations", "registrations whose lease is over", deadRegistrations},
	{"unreadable", "records that no registry reads, or that are too long", unreadable},
	{"contested", "an id that two processes register in turn", contested},
	{"round-trip", "a server that answers too late for the TTL", roundTrip},
	{"credentials", "credentials that end soon", credentials},
	{"certificate", "a TLS certificate that ends soon", certificate},
	{"slow-consumers", "views that do not get what is written", slowConsumers},
	{"slow-connections", "connections that the server closed as slow (system account)",
		slowConnections},
	{"flapping", "views that are made again and again", flapping},
	{"closed-connections", "connections that end again and again (system account)",
		closedConnections},
	{"replication", "one replica in a cluster, or an even number of them", replication},
	{"sync-interval", "one replica on a server that syncs late (system account)", syncInterval},
	{"clock", "a clock that differs from the server's", clock},
	{"ttls", "unlike TTLs in a tenant, or TTLs that are short", ttls},
	{"addresses", "addresses that other hosts cannot reach", addresses},
	{"silent-addresses", "addresses that do not answer (--dial)", silentAddresses},
	{"shared-addresses", "one address in two instances", sharedAddresses},
	{"idle-leases", "leases that hold nothing", idleLeases},
	{"older-version", "what a version before the reaper slots left", olderVersion},
	{"advice", "what works, and should be changed", advice},
}
