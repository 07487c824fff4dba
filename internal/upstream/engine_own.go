//go:build !nethttp

package upstream

const defaultEngine = Own
