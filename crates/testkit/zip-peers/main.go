// Go's archive/zip as a peer: lists a zip, or makes one of a directory.
//
//	zip-peers list FILE        one line an entry: name in hex, mode, time, size, CRC-32
//	zip-peers make FILE ROOT   everything below ROOT, sorted; links as links
//	zip-peers many FILE COUNT  the same directory so many times, then a file
package main

import (
	"archive/zip"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"
)

func main() {
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 2 && arguments[0] == "list":
		err = list(arguments[1])
	case len(arguments) == 3 && arguments[0] == "make":
		err = write(arguments[1], func(archive *zip.Writer) error { return tree(archive, arguments[2]) })
	case len(arguments) == 3 && arguments[0] == "many":
		err = write(arguments[1], func(archive *zip.Writer) error { return many(archive, arguments[2]) })
	default:
		err = fmt.Errorf("unknown arguments %q", arguments)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func list(path string) error {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, entry := range archive.File {
		reader, err := entry.Open()
		if err != nil {
			return fmt.Errorf("%q: %w", entry.Name, err)
		}
		sum := crc32.NewIEEE()
		// Reading to the end checks the entry's own sum and size.
		size, err := io.Copy(sum, reader)
		if err != nil {
			return fmt.Errorf("%q: %w", entry.Name, err)
		}
		mode := entry.ExternalAttrs >> 16
		fmt.Printf("%x %o %d %d %08x\n", entry.Name, mode, entry.Modified.Unix(), size, sum.Sum32())
	}
	return nil
}

func write(path string, fill func(*zip.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	archive := zip.NewWriter(file)
	if err := fill(archive); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}

func tree(archive *zip.Writer, root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header, err := zip.FileInfoHeader(info)
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		header.NonUTF8 = !utf8.ValidString(header.Name)
		switch {
		case info.IsDir():
			header.Name += "/"
			_, err = archive.CreateHeader(header)
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			writer, err := archive.CreateHeader(header)
			if err == nil {
				_, err = io.WriteString(writer, target)
			}
			return err
		}
		header.Method = zip.Deflate
		writer, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(writer, file)
		return err
	})
}

func many(archive *zip.Writer, count string) error {
	number, err := strconv.Atoi(count)
	for index := 0; index < number && err == nil; index++ {
		_, err = archive.CreateHeader(&zip.FileHeader{Name: "many/"})
	}
	if err == nil {
		_, err = archive.CreateHeader(&zip.FileHeader{Name: "last"})
	}
	return err
}
