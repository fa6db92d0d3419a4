module onlooker/tests/apps

go 1.22
