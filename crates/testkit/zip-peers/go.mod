module courser.test/zip-peers

go 1.26
