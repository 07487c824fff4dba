//go:build !nethttp

package wire

const defaultEngine = Own
