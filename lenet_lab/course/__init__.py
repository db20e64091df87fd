"""The course: checks for students, the student edition of the notebooks, solved exercises, the doctor."""
