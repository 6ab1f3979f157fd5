module github.com/skytools/skyd

go 1.26
