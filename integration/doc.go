// Package integration holds the tests of the whole library against real servers: one server in the
// test's process, or a cluster of three processes. Services that are killed or frozen are processes
// too. A test names the invariant of docs/design.md that it holds, and how the code was broken once
// to see the test fail.
//
// # Invariants
//
// The twelve invariants of docs/design.md, by their numbers:
//
//	invariant01_durable      a restart of the server keeps what Register acknowledged
//	invariant02_crash        a killed, stopped or frozen process, and a newcomer among the dead
//	invariant02_reapers      reapers that die or are frozen
//	invariant03_ownership    the newest registration wins; what a fenced owner may do
//	invariant04_convergence  each cache equals the bucket after a restart or a reconnect storm
//	invariant05_calm         look-ups during an outage, and what they say of their age
//	invariant06_order        events and the cache's history; slow readers
//	invariant07_bounded      consumers, goroutines, tombstones and instances
//	invariant07_memory       memory under large values and junk
//	invariant08_accounts     one account for each tenant
//	invariant08_answers      answers that a server sends to another tenant
//	invariant08_drain        requests to drain an instance, by role
//	invariant08_hostile      the hostile client of the other tests of invariant 8
//	invariant08_limits       one tenant at its limit
//	invariant08_names        names of tenants and services
//	invariant08_raw          raw requests and consumers within one account
//	invariant08_roles        what each role may do
//	invariant08_roles_raw    raw requests that each role may make
//	invariant08_signed       registrations that are signed
//	invariant08_victim       the tenant that the hostile client attacks
//	invariant09_flood        many and large hostile values
//	invariant09_tolerance    values that can't be read
//	invariant10_clocks       clocks that jump
//	invariant11_quiet        heartbeats reach no observer
//	invariant12_connection   the user's busy or dead connection
//	invariant12_guest        the user's functions may block and call the registry
//
// # Faults
//
//	faults                   the table of faults that an arena tries, each alone
//	faults_chaos             the same faults at random
//	fault_answers            a first write or its answer is lost or late
//	fault_bucket             the bucket is deleted, purged or recreated
//	fault_cluster            servers of a cluster are killed, cut off or moved from
//	fault_consumer           consumers are deleted or refused
//	fault_disk_linux         the server's disk is full
//	fault_permission         a user's permissions are taken away
//	fault_quorum             a cluster loses its quorum
//	fault_storage            the bucket is full
//	figures                  how long recovery takes, measured for docs/reliability.md
//
// The arena, in which faults are tried:
//
//	arena                    servers, workers and the end of a run
//	arena_checker            the checker of a run's history
//	arena_checker_cases      the checker finds what is broken, and nothing else
//	arena_fleet              one server process, or a cluster of three
//	arena_history            the history that the workers write
//	arena_hurt               what faults are made of
//	arena_link               the proxy between two processes
//	arena_settle             the wait until each cache equals the bucket
//	arena_worker             the worker process
//
// # Names that one process holds at a time
//
//	exclusive                the order of the line, and what Health tells
//	exclusive_checker        the models that histories are checked against
//	exclusive_end            what ends a hold
//	exclusive_faults         holds under faults
//	exclusive_locker         the process that holds a name, and the counter that it uses
//	exclusive_ticket         tickets that are odd, stray or stuck
//
// # The API
//
//	api                      New, Connect, Dial and their errors
//	api_log                  log lines
//	api_lookup               look-ups and filters
//	api_register             Register, Update, SetStatus and Close
//	api_register_many        RegisterAll
//	api_seed                 the API as the first users know it
//	leaf                     a leaf node with a mirror of the bucket
//	leaf_faults              faults of a leaf node, its hub and its mirror
//	versions                 processes of the previous version and this one
//	versions_peer            the process of either version
//
// # Access and settings of the server
//
//	access_certificates      users that are known by a certificate
//	access_nkey              nkeys, and their rotation
//	access_operator          users that are known by a JWT
//	access_rotation          rotation of passwords, JWTs and certificates
//	access_server            the configuration of a server for one tenant, started
//	access_signing_keys      rotation of signing keys
//	access_users             the ways in which a server knows its users
//	server_settings          the limits that docs/security.md and docs/operations.md list
//
// # Helpers
//
//	main                     TestMain, and the tests of -short
//	helpers                  registries, look-ups and errors that many files use
//	process                  processes that a test starts
//	process_orphan_linux     processes end with the test
//	process_orphan_other     the same on other systems
//	process_reload           a server that reloads its configuration
//	race_off, race_on        whether the race detector is on
//	readme                   the Go code of the README and the tour compiles
//	repository               documents, imports, log lines and this index against the code
package integration
