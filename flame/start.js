/* The first picture, once all scripts before have said what they know. */
if (isAlone) readAddress();
else go({}, "keep");
