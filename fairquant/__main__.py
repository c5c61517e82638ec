"""python -m fairquant"""

from fairquant.cli import main

main()
