from mekiki.cli import main

main()
