// Package style tests the project's files, not its behaviour: no line is too wide, and no word is
// used that the style rules in CONTRIBUTING.md replace by another one.
package style
