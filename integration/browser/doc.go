// Package browser tests the page of kvregistry page in a real Chromium, against the real command
// and a real server. It is a module of its own, because its tests drive a browser.
//
// Debian's package chromium has what the tests need. Without it they are skipped, unless the
// variable CI is true: then they fail. CHROMIUM names another program than chromium. The check of
// accessibility needs npm, which fetches axe-core from its registry.
//
// The pictures of docs/images are made by
//
//	go test -run TestPictures -pictures ../../docs/images
package browser
