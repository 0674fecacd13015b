// Package stream says what the JetStream stream under a tenant's bucket looks like: its
// configuration and limits, what is wrong with one that is there, and how a mirror of it is made.
// Packages tenant and operator share it.
package stream
