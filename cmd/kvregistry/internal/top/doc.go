// Package top is a full-screen view of a tenant: its services, their instances by status, and how
// current that is.
//
// The view follows the registry's catalogs. It shows at most [perSecond] states a second, and draws
// the rows that fit on the screen, so that thousands of instances cost what a screen costs.
package top
