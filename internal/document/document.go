// Package document reads JSON as docs/wire-format.md says. Names match exactly. The last of several
// members with one name counts. A whole number may have any spelling. A null counts as left out.
//
// Package encoding/json does not fit: it compares names without case, and merges members with one
// name. Here [json.Valid] checks a document as a whole, and after that the document is taken apart.
// All functions except Read take only valid JSON, or nil for a value that is not there.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

var errType = errors.New("its type is another")

// Cursor goes through the members of an object, or through what an array holds.
type Cursor struct {
	Name  []byte // of the member; nil in an array
	Value []byte

	data []byte
	at   int // where the next member begins, or the last byte of data
}

// Read returns a cursor before the first member of an object. A value that is no object has no
// members. ok is false if the value is no JSON.
func Read(value []byte) (members Cursor, ok bool) {
	if !json.Valid(value) {
		return Members(nil), false
	}
	return Members(bytes.TrimSpace(value)), true
}

// Members returns a cursor before the first member of an object. Any other value has no members.
func Members(object []byte) Cursor { return within(object, '{') }

// elements returns a cursor before the first element of an array. Any other value has no elements.
func elements(array []byte) Cursor { return within(array, '[') }

func within(data []byte, opened byte) Cursor {
	if !begins(data, opened) {
		return Cursor{data: []byte("]")}
	}
	return Cursor{data: data, at: next(data, 1)}
}

// Next goes to the next member or element, and reports whether there is one.
func (c *Cursor) Next() bool {
	if c.data[c.at] == ']' || c.data[c.at] == '}' {
		return false
	}
	if c.data[0] == '{' {
		colon := end(c.data, c.at)
		c.Name = name(c.data[c.at:colon])
		c.at = next(c.data, next(c.data, colon)+1)
	}
	to := end(c.data, c.at)
	c.Value = c.data[c.at:to]
	if c.at = next(c.data, to); c.data[c.at] == ',' {
		c.at = next(c.data, c.at+1)
	}
	return true
}

// Text reads a string. Bytes that are not UTF-8 and halves of surrogates become U+FFFD.
func Text(value []byte) (string, error) {
	switch {
	case null(value):
		return "", nil
	case value[0] != '"':
		return "", errType
	}
	if plain := value[1 : len(value)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain), nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err
}

// Texts reads an array of strings, and leaves out each null.
func Texts(value []byte) (list []string, err error) {
	if !null(value) && !begins(value, '[') {
		return nil, errType
	}
	for c := elements(value); c.Next(); {
		if null(c.Value) {
			continue
		}
		text, err := Text(c.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, nil
}

// Pairs reads an object of strings, and leaves out each member that is null.
func Pairs(value []byte) (pairs map[string]string, err error) {
	if !null(value) && !begins(value, '{') {
		return nil, errType
	}
	var wrong map[string]error // a later member may take the place of a wrong one
	for m := Members(value); m.Next(); {
		text, err := Text(m.Value)
		switch {
		case err != nil:
			if wrong == nil {
				wrong = map[string]error{}
			}
			wrong[string(m.Name)] = err
			continue
		case null(m.Value):
			delete(pairs, string(m.Name))
		case pairs == nil:
			pairs = map[string]string{string(m.Name): text}
		default:
			pairs[string(m.Name)] = text
		}
		delete(wrong, string(m.Name))
	}
	for _, err := range wrong {
		return nil, err
	}
	return pairs, nil
}

// Whole reads a number that has no fraction, in any spelling: 2, 2.0 and 20e-1 are the same. A
// number that does not fit an int becomes the largest int, or the smallest.
func Whole(value []byte) (int, error) {
	if null(value) {
		return 0, nil
	}
	if value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return 0, errType
	}
	text := string(value)
	if n, err := strconv.Atoi(text); err == nil {
		return n, nil
	}
	switch f, _ := strconv.ParseFloat(text, 64); { // infinite if it is too large for that
	case f != math.Trunc(f):
		return 0, errType
	case f >= math.MaxInt:
		return math.MaxInt, nil
	case f <= math.MinInt:
		return math.MinInt, nil
	default:
		return int(f), nil
	}
}

// null reports whether a value counts as left out.
func null(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

// begins reports whether a value is an object or an array, by its first byte.
func begins(value []byte, with byte) bool { return len(value) > 0 && value[0] == with }

// name returns a member's name without its quotes.
func name(quoted []byte) []byte {
	plain := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return plain
	}
	text, _ := Text(quoted) // it is a string
	return []byte(text)
}

// next returns the index of the first byte from i on that is no white space.
func next(data []byte, i int) int {
	for data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r' {
		i++
	}
	return i
}

// end returns the index behind the value that begins at i.
func end(data []byte, i int) int {
	switch data[i] {
	case '"':
		return endOfString(data, i)
	case '{', '[':
	default:
		for ; i < len(data); i++ {
			switch data[i] {
			case ',', ']', '}', ' ', '\n', '\t', '\r':
				return i
			}
		}
		return i
	}
	for depth := 0; ; i++ {
		switch data[i] {
		case '"':
			i = endOfString(data, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// endOfString returns the index behind the string whose opening quote is at i.
func endOfString(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}
