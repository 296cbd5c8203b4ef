"""dlc, a deep-learning compiler: the public face.

    import dlc
    lenet = dlc.load("lenet5.dl").LeNet5(seed=0)
    loss = lenet.fit(image=images, label=labels)

Importing this package loads none of the heavy parts; each name comes at its first use.
"""

__version__ = "0.1.0"
