// Package doctor finds what is wrong with a tenant.
//
// [Examine] asks the server for what several checks need, once, and then runs the checks of one
// table: a name, what the check finds, and a function. A check gives findings, or says why it could
// not be done. A file holds the checks of one subject. docs/doctor.md lists the table.
package doctor
