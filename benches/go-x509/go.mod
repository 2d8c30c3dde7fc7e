module courser.test/go-x509

go 1.26
